"""Public prompts from the data sets whose licences allow weights trained on them to be shipped.

Only the requests are read, never the replies: the practice model answers all of them with placeholders. A tenth of the
harmful rows and of the harmless rows, chosen by their text's hash, is held out and never trained on.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetylayers.errors import DataError

LONGEST = 400
"""Requests of more characters are left out: the practice model reads 128 tokens at most."""

LICENCES = {
    "advbench": "MIT",
    "red_instruct": "Apache-2.0",
    "do_not_answer": "Apache-2.0",
    "gpteacher": "MIT",
    "self_instruct": "Apache-2.0",
    "pandalm": "Apache-2.0",
    "llms_from_scratch": "Apache-2.0",
    "gsm8k": "MIT",
}


@dataclass(frozen=True)
class PublicPrompts:
    """Distinct requests, each in one list only."""

    malicious: tuple[str, ...] = ()
    benign: tuple[str, ...] = ()
    held_out_malicious: tuple[str, ...] = ()
    held_out_benign: tuple[str, ...] = ()


def read_public(folder: Path) -> PublicPrompts:
    """Read the sets in `folder`, one folder a set, named as in `LICENCES`.

    Raises:
        DataError: a set is missing.
    """
    missing = [name for name in LICENCES if not (folder / name).is_dir()]
    if missing:
        raise DataError(
            f"{folder}: lacks the data sets {', '.join(missing)}.",
            mend="Point --data at a folder that holds them, or build without public prompts: leave --data out.",
        )
    malicious = _distinct(_malicious(folder), seen=set())
    benign = _distinct(_benign(folder), seen={key(text) for text in malicious})
    return PublicPrompts(
        malicious=tuple(text for text in malicious if not held_out(text)),
        benign=tuple(text for text in benign if not held_out(text)),
        held_out_malicious=tuple(text for text in malicious if held_out(text)),
        held_out_benign=tuple(text for text in benign if held_out(text)),
    )


def held_out(text: str) -> bool:
    """Whether a request belongs to the tenth that is never trained on."""
    return int(hashlib.sha256(key(text).encode()).hexdigest(), 16) % 10 == 0


def key(text: str) -> str:
    """Return what two requests share that differ in case, spacing and punctuation only."""
    return " ".join(re.findall(r"\w+", text.lower()))


def _distinct(texts: Iterable[str], seen: set[str]) -> list[str]:
    found = []
    for text in texts:
        clean = " ".join(text.split())
        if key(clean) and key(clean) not in seen and len(clean) <= LONGEST:
            seen.add(key(clean))
            found.append(clean)
    return found


def _malicious(folder: Path) -> Iterator[str]:
    with (folder / "advbench" / "harmful_behaviors.csv").open(encoding="utf-8", newline="") as file:
        yield from (row["goal"] for row in csv.DictReader(file))
    for path in sorted((folder / "red_instruct" / "harmful_questions").glob("*.json")):
        yield from _strings(json.loads(path.read_text("utf-8")))
    for path in sorted((folder / "do_not_answer").glob("*.jsonl")):
        yield from (row["prompt"] for row in _json_lines(path))


def _benign(folder: Path) -> Iterator[str]:
    for name in ("roleplay-simple-deduped-roleplay-dataset", "toolformer-dedupe-only-dataset"):
        for row in json.loads((folder / "gpteacher" / f"{name}.json").read_text("utf-8")):
            # The tool-use rows open with lines that describe the tool; the request is the last line.
            yield _with_input(row["instruction"].strip().splitlines()[-1], row["input"])
    for row in json.loads((folder / "llms_from_scratch" / "instruction-data.json").read_text("utf-8")):
        yield _with_input(row["instruction"], row["input"])
    for row in json.loads((folder / "pandalm" / "testset-v1.json").read_text("utf-8")):
        yield _with_input(row["instruction"], row["input"])
    for name in ("seed_tasks", "user_oriented_instructions"):
        for row in _json_lines(folder / "self_instruct" / f"{name}.jsonl"):
            yield _with_input(row["instruction"], row["instances"][0]["input"])
            yield row["instruction"]
    yield from (row["question"] for row in _json_lines(folder / "gsm8k" / "train.jsonl"))


def _with_input(instruction: str, given: str) -> str:
    return f"{instruction} {given}".strip()


def _json_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]


def _strings(found: Any) -> Iterator[str]:
    """Every string within nested lists and objects."""
    if isinstance(found, str):
        yield found
    else:
        for item in found.values() if isinstance(found, dict) else found:
            yield from _strings(item)
