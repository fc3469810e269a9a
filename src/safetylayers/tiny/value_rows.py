"""Rows of the planted world of values, to practise alignment on: `python -m safetylayers.tiny.value_rows FOLDER`.

pairs.jsonl holds choices, replies.jsonl one of the replies that there are to each request, demonstrations.jsonl the
best one; prompts.jsonl and watch.jsonl hold requests alone, others than those three files and than each other.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path

from safetylayers.records import write_text
from safetylayers.tiny.choices import Request, choose, demonstrations, requests

WATCHED = 20
"""For so many requests to learn from there is one to watch on, and at least so many are watched."""


def write_rows(folder: Path, *, count: int = 4000, seed: int = 0) -> dict[str, int]:
    """Write all files; return how many rows each has.

    Args:
        folder: made where it is missing; files of these names in it are written over.
        count: of requests to learn from.
        seed: of what is drawn.

    Raises:
        OutputError: the folder cannot be written to.
    """
    watched = _distinct(requests(max(WATCHED, count // WATCHED), seed=seed + 2), set())
    asked = _distinct(requests(count, seed=seed), {request.text for request in watched})
    prompts = _distinct(requests(count, seed=seed + 1), {request.text for request in [*watched, *asked]})
    rng = random.Random(seed)  # noqa: S311 - not a secret
    pairs = choose(asked, seed=seed)
    files: dict[str, Iterable[Mapping[str, str]]] = {
        "pairs": (
            {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected, "category": pair.category}
            for pair in pairs
        ),
        "replies": ({"prompt": each.text, "response": rng.choice(each.replies).text} for each in asked),
        "demonstrations": ({"prompt": each.prompt, "response": each.response} for each in demonstrations(asked)),
        "prompts": ({"prompt": each.text} for each in prompts),
        "watch": ({"prompt": each.text} for each in watched),
    }
    return {name: _write(folder / f"{name}.jsonl", rows) for name, rows in files.items()}


def _distinct(asked: Iterable[Request], taken: set[str]) -> list[Request]:
    found = {request.text: request for request in asked if request.text not in taken}
    return list(found.values())


def _write(path: Path, rows: Iterable[Mapping[str, str]]) -> int:
    lines = [json.dumps(row) for row in rows]
    write_text(path, "\n".join(lines) + "\n")
    return len(lines)


def main() -> None:
    """Read the command line and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=4000, help="requests to learn from")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for name, count in write_rows(given.folder, count=given.count, seed=given.seed).items():
        print(f"{given.folder / name}.jsonl\t{count} rows")  # noqa: T201 - it is a program


if __name__ == "__main__":
    main()
