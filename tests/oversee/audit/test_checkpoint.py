"""Checkpoints are signed notes that other tools read, and only those of the log's own key hold."""

from __future__ import annotations

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from safetylayers.errors import AuditError
from safetylayers.oversee.audit.checkpoint import Checkpoint, Verifier, parse_checkpoint, split_notes

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
ORIGIN = "example.org/log"
CHECKPOINT = Checkpoint(ORIGIN, 42, bytes(range(32)))
NOTE = CHECKPOINT.signed(KEY)
VERIFIER = Verifier(ORIGIN, PUBLIC)


def test_a_note_is_laid_out_as_the_specification_says() -> None:
    body, signature = NOTE.split("\n\n")
    assert body == f"{ORIGIN}\n42\n{base64.b64encode(bytes(range(32))).decode()}"
    dash, name, content = signature.removesuffix("\n").split(" ")
    assert (dash, name) == ("\u2014", ORIGIN)
    key_id, signed = base64.b64decode(content)[:4], base64.b64decode(content)[4:]
    assert key_id == hashlib.sha256(ORIGIN.encode() + b"\n\x01" + PUBLIC).digest()[:4]
    KEY.public_key().verify(signed, (body + "\n").encode())


def test_the_specifications_own_note_is_read() -> None:
    note = (
        "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
        "— example.com/behind-the-sofa "
        "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    )
    read = parse_checkpoint(note)
    assert (read.origin, read.size) == ("example.com/behind-the-sofa", 20852163)


def test_a_verifier_survives_its_line() -> None:
    assert Verifier.parse(str(VERIFIER) + "\n") == VERIFIER
    assert VERIFIER.check(NOTE) == CHECKPOINT


def test_signatures_of_others_are_passed_over() -> None:
    other = Checkpoint(ORIGIN, 42, bytes(range(32))).signed(Ed25519PrivateKey.generate())
    cosigned = NOTE + other.split("\n\n")[1]
    assert VERIFIER.check(cosigned) == CHECKPOINT
    with pytest.raises(AuditError, match="not signed by this log's key"):
        VERIFIER.check(other)


@pytest.mark.parametrize(
    ("old", "new"), [("\n42\n", "\n43\n"), ("AAEC", "AAED"), (f"{ORIGIN}\n42", "example.org/other\n42")]
)
def test_a_changed_note_does_not_hold(old: str, new: str) -> None:
    assert old in NOTE
    with pytest.raises(AuditError):
        VERIFIER.check(NOTE.replace(old, new, 1))


@pytest.mark.parametrize(
    "note",
    [
        "",
        "text",
        NOTE.rstrip("\n"),
        NOTE.replace("\n42\n", "\n042\n"),
        NOTE.replace("\n42\n", "\n-1\n"),
        NOTE.replace("\n42\n", "\n"),
        NOTE.replace("\u2014", "-"),
        NOTE.replace("=", ""),
        f"{ORIGIN}\n1\nAAAA\n\n{NOTE.split(chr(10) * 2)[1]}",
    ],
)
def test_malformed_notes_are_refused(note: str) -> None:
    with pytest.raises(AuditError):
        VERIFIER.check(note)


@pytest.mark.parametrize("name", ["", "two words", "a+b", "tab\t", "line\n", "wide\u2003space"])
def test_names_that_notes_cannot_hold_are_refused(name: str) -> None:
    with pytest.raises(AuditError):
        Verifier(name, PUBLIC)


@pytest.mark.parametrize(
    "text", ["", "a+b+c", str(VERIFIER)[:-4], f"other{VERIFIER}", str(VERIFIER).replace("+AQ", "+Ag")]
)
def test_damaged_verifier_keys_are_refused(text: str) -> None:
    with pytest.raises(AuditError):
        Verifier.parse(text)


def test_notes_are_found_in_a_file_and_pieces_left_out() -> None:
    other = Checkpoint(ORIGIN, 43, bytes(32)).signed(KEY)
    text = f"\n\n{NOTE}\n\n{NOTE[:30]}\n\n{other}\n\n{NOTE[:-10]}"
    notes = list(split_notes(text.splitlines(keepends=True)))
    assert notes[:2] == [NOTE, other]
    with pytest.raises(AuditError):
        VERIFIER.check(notes[2])
