"""Choices are read in the forms that data comes in, and what is none is named with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from safetylayers.errors import DataError
from safetylayers.prompts import Pair, PairSet, load_pairs


def written(tmp_path: Path, *rows: dict[str, Any]) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


USER = {"role": "user", "content": "What is two and two?"}
FOUR, FIVE = ({"role": "assistant", "content": text} for text in ("Four.", "Five."))


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "What is two and two?", "chosen": "Four.", "rejected": "Five."},
        {"prompt": [USER], "chosen": "Four.", "rejected": "Five."},
        {"prompt": [USER], "chosen": [FOUR], "rejected": [FIVE]},
        {"chosen": [USER, FOUR], "rejected": [USER, FIVE]},
        {"prompt": "What is two and two?", "chosen": [USER, FOUR], "rejected": [USER, FIVE]},
        {"prompt": "\n\nHuman: What is two and two?\n\nAssistant:", "chosen": " Four.", "rejected": "Five."},
        {
            "prompt": "What is two and two?",
            "chosen": "\n\nHuman: What is two and two?\n\nAssistant: Four.",
            "rejected": "\n\nHuman: What is two and two?\n\nAssistant: Five.",
        },
        {
            "chosen": "\n\nHuman: What is two and two?\n\nAssistant: Four.",
            "rejected": "\n\nHuman: What is two and two?\n\nAssistant: Five.",
        },
        {
            "chosen": "Human: What is two and two?\n\nAssistant: Four.",
            "rejected": "\n\nHuman: What is two and two?\n\nAssistant: Five.",
        },
    ],
)
def test_every_form_says_the_same(tmp_path: Path, row: dict[str, Any]) -> None:
    assert load_pairs(written(tmp_path, row)).pairs == (Pair.of("What is two and two?", "Four.", "Five."),)


def test_transcripts_of_many_turns_keep_them(tmp_path: Path) -> None:
    begun = "\n\nHuman: One?\n\nAssistant: Yes.\n\nHuman: Two?\n\nAssistant:"
    pair = load_pairs(written(tmp_path, {"chosen": begun + " Three.", "rejected": begun + " No.\n\nReally."})).pairs[0]
    assert [turn["role"] for turn in pair.messages] == ["user", "assistant", "user"]
    assert (pair.prompt, pair.chosen, pair.rejected) == ("Two?", "Three.", "No.\n\nReally.")


def test_a_text_that_only_quotes_a_dialogue_is_a_text(tmp_path: Path) -> None:
    quoting = {"prompt": "Go on:\n\nHuman: hi", "chosen": "Yes.\n\nHuman: ho", "rejected": "No."}
    pair = load_pairs(written(tmp_path, quoting)).pairs[0]
    assert (pair.prompt, pair.chosen, pair.rejected) == ("Go on:\n\nHuman: hi", "Yes.\n\nHuman: ho", "No.")


def test_what_a_choice_is_about_is_kept(tmp_path: Path) -> None:
    row = {"prompt": "A?", "chosen": "B", "rejected": "C", "value": "honesty", "category": "facts", "margin": 0.5}
    pair = load_pairs(written(tmp_path, {**row, "by": "ann", "source": "survey"})).pairs[0]
    assert (pair.value, pair.category, pair.margin, pair.by, pair.source) == ("honesty", "facts", 0.5, "ann", "survey")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "A?", "chosen": "B"}, "no 'rejected'"),
        ({"prompt": "A?", "chosen": "B", "rejected": "B"}, "both replies are the same"),
        ({"prompt": "A?", "chosen": "B", "rejected": "  "}, "'rejected' holds no text"),
        ({"chosen": "B", "rejected": "C"}, "'chosen' is no reply to a request"),
        ({"prompt": "A?", "chosen": [USER, FOUR], "rejected": "C"}, "conversation that 'prompt' does not begin"),
        ({"prompt": [USER, FOUR], "chosen": "B", "rejected": "C"}, "'prompt' does not end with a request"),
        ({"prompt": 7, "chosen": "B", "rejected": "C"}, "'prompt' is neither a text"),
        ({"chosen": [USER, FOUR], "rejected": [FOUR, FIVE]}, "different conversations"),
        ({"prompt": "A?", "chosen": "B", "rejected": "C", "margin": -1}, "margin -1 is no number from 0 up"),
        ({"prompt": "A?", "chosen": "B", "rejected": "C", "margin": "much"}, "margin 'much'"),
    ],
)
def test_a_row_that_is_no_choice_is_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    good = {"prompt": "A?", "chosen": "B", "rejected": "C"}
    with pytest.raises(DataError, match="line 2: .*" + message):
        load_pairs(written(tmp_path, good, row))


def test_the_hash_knows_which_was_chosen() -> None:
    one, other = (PairSet("p", (Pair.of("A?", *replies),)) for replies in (("B", "C"), ("C", "B")))
    assert one.content_hash != other.content_hash
    assert one.content_hash == PairSet("q", one.pairs).content_hash


def test_half_a_character_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    whole = r'{"prompt": "\ud83d\ude00?", "chosen": "B", "rejected": "C"}'
    path.write_text(whole + "\n" + whole.replace(r"\ude00", "") + "\n")
    with pytest.raises(DataError, match="line 2: half a character"):
        load_pairs(path)
    path.write_text(whole + "\n")
    assert load_pairs(path).pairs[0].prompt == "\N{GRINNING FACE}?"
