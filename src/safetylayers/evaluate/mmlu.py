"""Multiple choice from a local file in MMLU's format (arXiv 2009.03300): the likeliest letter is the answer."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetylayers.errors import DataError
from safetylayers.prompts import Template, render
from safetylayers.records import ProgressCallback, Rate

if TYPE_CHECKING:
    from safetylayers.models import ChatModel

LETTERS = ("A", "B", "C", "D")
CHOICES = ("choice0", "choice1", "choice2", "choice3")
COLUMNS = ("question", *CHOICES, "answer")


@dataclass(frozen=True)
class ChoiceQuestion:
    """A question with four choices."""

    question: str
    choices: tuple[str, str, str, str]
    answer: int
    """Index of the right choice, from 0."""

    @property
    def prompt(self) -> str:
        """The question as it is asked."""
        choices = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, self.choices, strict=True))
        return f"{self.question}\n{choices}\nAnswer with the letter of the right choice."


def load_choice_questions(path: str | Path, *, limit: int | None = None) -> list[ChoiceQuestion]:
    """Read a CSV with the columns question, choice0 to choice3, and answer (0 to 3, or A to D).

    Raises:
        DataError: it cannot be read, is empty, lacks a column, or a row is malformed; it names file, line and mend.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
            if missing:
                raise DataError(
                    f"{path}, line 1: no column {missing[0]!r}.", mend=f"The header has to be: {','.join(COLUMNS)}"
                )
            found = [_question(fields, f"{path}, line {reader.line_num}") for fields in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV ({error}).", mend="Check the path and the file.") from error
    if not found:
        raise DataError(f"{path}: no questions.", mend="Write at least one row below the header.")
    return found[:limit]


def _question(fields: dict[str, str], place: str) -> ChoiceQuestion:
    if None in fields:
        raise DataError(f"{place}: more than {len(COLUMNS)} cells.", mend="Put cells that hold a comma into quotes.")
    empty = [column for column in COLUMNS if not (fields[column] or "").strip()]
    if empty:
        raise DataError(f"{place}: {empty[0]!r} is empty.", mend="Fill it in, or delete the row.")
    answer = fields["answer"].strip().upper()
    if answer not in ("0", "1", "2", "3", *LETTERS):
        raise DataError(f"{place}: the answer is {answer!r}.", mend="Write 0 to 3, or A to D.")
    index = int(answer) if answer.isdigit() else LETTERS.index(answer)
    first, second, third, fourth = (fields[column] for column in CHOICES)
    return ChoiceQuestion(fields["question"], (first, second, third, fourth), index)


def choose(
    model: ChatModel,
    questions: Sequence[ChoiceQuestion],
    *,
    template: Template = "chat",
    progress: ProgressCallback | None = None,
) -> list[bool]:
    """Whether the model's likeliest letter is right, for each question, asked without examples."""
    rendered = render([question.prompt for question in questions], model.tokenizer, template)
    chosen = model.opening_logprobs(rendered, LETTERS, progress=progress).argmax(dim=1).tolist()
    return [letter == question.answer for letter, question in zip(chosen, questions, strict=True)]


def choice_accuracy(
    model: ChatModel,
    path: str | Path,
    *,
    template: Template = "chat",
    limit: int | None = None,
    progress: ProgressCallback | None = None,
) -> Rate:
    """Return the rate of right choices over a file. Raises DataError."""
    return Rate.of(choose(model, load_choice_questions(path, limit=limit), template=template, progress=progress))
