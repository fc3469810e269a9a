"""An export is enough to compute the signed root with any other tool."""

from __future__ import annotations

import hashlib
import json

from pymerkle import InmemoryTree

from safetylayers.oversee.audit import AuditLog, LogKeys, Verifier, export


def test_another_tool_computes_the_signed_root(filled: AuditLog) -> None:
    head, *lines = map(json.loads, export(filled.database, filled.verifier))
    checkpoint = Verifier.parse(head["verifier"]).check(head["checkpoint"])
    tree = InmemoryTree(algorithm="sha256")
    for index, line in enumerate(lines, start=1):
        tree.append_entry(line["leaf"].encode())
        assert tree.get_leaf(index).hex() == line["hash"]
    assert (tree.get_size(), tree.get_root()) == (checkpoint.size, checkpoint.root)


def test_payloads_are_exported_only_with_the_vault(filled: AuditLog, keys: LogKeys) -> None:
    assert "What is" not in "".join(export(filled.database, filled.verifier))
    line = json.loads(list(export(filled.database, filled.verifier, vault=keys.vault))[1 + 7])
    assert json.loads(line["payload"]) == {"text": "What is 7 and 7?"}
    committed = hashlib.sha256(bytes.fromhex(line["salt"]) + line["payload"].encode()).hexdigest()
    assert committed == json.loads(line["leaf"])["commitment"]


def test_an_empty_log_is_one_line(log: AuditLog) -> None:
    assert [json.loads(line)["checkpoint"] for line in export(log.database, log.verifier)] == [""]
