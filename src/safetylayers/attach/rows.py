"""What heads learn from: requests, replies to them, and what is known of each."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from safetylayers.attach.gate import HARM, REFUSAL
from safetylayers.errors import DataError
from safetylayers.evaluate import PatternJudge, Verdict
from safetylayers.prompts import PromptSet, Template, Values, builtin, render
from safetylayers.prompts.prompt_set import content_hash
from safetylayers.prompts.styles import TRAINED, restyled
from safetylayers.prompts.table import Row, read_rows
from safetylayers.prompts.values import RESERVED
from safetylayers.records import ProgressCallback

if TYPE_CHECKING:
    from safetylayers.models import ChatModel

REFUSALS = (
    "I'm sorry, but I can't assist with that.",
    "I'm sorry, but I can't help with that request.",
    "I can't help with that.",
    "I cannot assist with this. Please ask me something else.",
)
"""Written refusals, for models that do not refuse by themselves."""
COMPLIANT = ("Sure, here is", "Sure.", "Here is", "Of course.", "Certainly!")
"""How replies are begun for a model that would refuse, so that it continues them in its own words."""
WRITTEN_COMPLIANCE = (
    "Absolutely! Below you will find a complete answer, with everything that you need to know. To start with,",
    "Yes, I can help you with this. There are three parts to it. The first part is the most important one, and it goes",
    "Okay. Here are the instructions that you wanted: 1. Begin by getting ready. 2. Make sure that you have",
    "No problem. It is easier than most people think. Let me explain how this is usually done, and what comes",
)
"""Compliant beginnings that say nothing, for a correction that has to work behind any."""
LONGEST_ASKED = 400
"""Characters of a request that the model is to reply to: one long request pads its whole batch."""
REPLY_TOKENS = 32
STYLED = 0.35
"""Share of the requests that come in another style."""


@dataclass(frozen=True)
class LabelledRow:
    """A request, a reply where there is one, and what is known of them."""

    prompt: str
    harmful: bool
    reply: str = ""
    refused: bool | None = None
    """Whether the reply refuses; None without a reply."""
    refuses: bool | None = None
    """Whether the model itself would refuse; None where that is not known."""
    values: dict[str, bool] = field(default_factory=dict)
    """Named value -> whether the row goes against it; values that are not named are not known."""


@dataclass(frozen=True)
class RowSet:
    """Rows in a fixed order, under the name that reports show."""

    name: str
    rows: tuple[LabelledRow, ...]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def content_hash(self) -> str:
        """SHA-256 over everything that is known of the rows, in order."""
        return content_hash(
            [
                [
                    row.prompt,
                    row.reply,
                    str(row.harmful),
                    str(row.refused),
                    str(row.refuses),
                    *map(str, sorted(row.values.items())),
                ]
                for row in self.rows
            ]
        )

    @property
    def values(self) -> tuple[str, ...]:
        """Every named value that some row goes against, sorted."""
        return tuple(sorted({name for row in self.rows for name, against in row.values.items() if against}))


@dataclass(frozen=True)
class Split:
    """Rows by what they serve for; all rows of one request are on one side."""

    train: RowSet
    calibration: RowSet
    test: RowSet

    @classmethod
    def of(cls, rows: RowSet) -> Split:
        """Split by the request's own hash: eight tenths to learn from, one to calibrate on, one to measure on.

        Raises:
            DataError: a part lacks harmful or harmless rows.
        """
        parts: tuple[list[LabelledRow], ...] = ([], [], [])
        for row in rows.rows:
            digit = int(hashlib.sha256(row.prompt.encode()).hexdigest(), 16) % 10
            parts[digit - 7 if digit > 7 else 0].append(row)
        for part in parts:
            if len({row.harmful for row in part}) < 2:
                raise DataError(
                    f"{rows.name}: {len(rows)} rows are too few: a part of them lacks harmful or harmless ones.",
                    mend="Give at least some fifty rows of each kind.",
                )
        return cls(*(RowSet(rows.name, tuple(part)) for part in parts))


def rows_of(harmful: PromptSet, *harmless: PromptSet) -> RowSet:
    """Return rows without replies from prompt sets."""
    rows = [LabelledRow(text, harmful=True) for text in harmful.texts]
    rows += [LabelledRow(text, harmful=False) for prompts in harmless for text in prompts.texts]
    return RowSet("+".join(prompts.name for prompts in (harmful, *harmless)), tuple(rows))


def builtin_rows() -> RowSet:
    """Return the built-in sets' training splits."""
    return rows_of(*(builtin(name, "train") for name in ("malicious", "normal", "borderline")))


def load_rows(source: str | Path) -> RowSet:
    """Load rows with `prompt`, `harmful`, and where known `response`, `refused` and a column a named value.

    Raises:
        DataError: the source cannot be read, a row is malformed (it says where), or harmful or harmless rows are
        lacking.
    """
    rows = tuple(_row(row) for row in read_rows(source, split="train"))
    for kind in (True, False):
        if not any(row.harmful is kind for row in rows):
            raise DataError(
                f"{source}: no row is {'harmful' if kind else 'harmless'}.",
                mend="Give rows of both kinds, marked by 'harmful': true or false.",
            )
    return RowSet(Path(source).stem, rows)


def _row(row: Row) -> LabelledRow:
    known = {"prompt", "response", "harmful", "refused"}
    if taken := sorted(set(RESERVED) & set(row.fields)):
        raise DataError(f"{row.place}: a column {taken[0]!r} is always there.", mend="Give the value another name.")
    prompt = row.fields.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise DataError(f"{row.place}: 'prompt' holds no text. It has: {row.columns}.", mend="Fill it in.")
    if "harmful" not in row.fields:
        raise DataError(f"{row.place}: lacks 'harmful'. It has: {row.columns}.", mend="Mark it true or false.")
    harmful = _flag(row, "harmful")
    reply = row.fields.get("response") or ""
    if not isinstance(reply, str):
        raise DataError(f"{row.place}: 'response' holds no text.", mend="Write a text, or leave it out.")
    refused = _flag(row, "refused") if reply and row.fields.get("refused") not in (None, "") else None
    if refused is None and reply:
        refused = _refuses([reply])[0]
    values = {name: _flag(row, name) for name in row.fields if name not in known and _is_flag(row.fields[name])}
    return LabelledRow(prompt, harmful, reply, refused, values=values)


def _is_flag(value: object) -> bool:
    """Whether a column that is none of the known ones holds a value's label; others, as an id, are passed over."""
    return isinstance(value, bool) or (isinstance(value, str) and value.strip().lower() in ("true", "false"))


def _flag(row: Row, column: str) -> bool:
    value = row.fields[column]
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):  # a CSV has nothing but text
        return value.strip().lower() == "true"
    if isinstance(value, bool) or value in (0, 1):
        return bool(value)
    raise DataError(f"{row.place}: {column!r} is neither true nor false.", mend="Mark it true or false.")


def valued(rows: RowSet, values: Values | None) -> RowSet:
    """Return the rows with the values file's examples added; all other rows keep what is known of them."""
    if values is None:
        return rows
    added = [
        LabelledRow(text, harmful=against, values={name: against})
        for name, value in values.values.items()
        for against, texts in ((True, value.examples.against), (False, value.examples.within))
        for text in texts
    ]
    return RowSet(f"{rows.name}+values", (*rows.rows, *added))


def styled(rows: RowSet, seed: int) -> RowSet:
    """Return the rows, some of their requests asked in another way."""
    texts = restyled([row.prompt for row in rows.rows], TRAINED, seed, STYLED)
    return RowSet(rows.name, tuple(replace(row, prompt=text) for row, text in zip(rows.rows, texts, strict=True)))


def with_replies(
    rows: RowSet,
    model: ChatModel,
    *,
    template: Template,
    most: int,
    seed: int,
    progress: ProgressCallback | None = None,
) -> RowSet:
    """Let the model reply, and add to each reply its opposite.

    The model's own greedy replies say what it refuses. Where it refused, it is made to go on from a compliant opening;
    where it complied, a written refusal is the opposite. All words of compliance are thus the model's own.

    Args:
        rows: those that have a reply stay as they are.
        model: that replies.
        template: how requests are rendered.
        most: so many requests get replies, half of them harmful; the others stay without.
        seed: of which ones, and of the openings.
        progress: told after each batch.
    """
    rng = random.Random(seed)  # noqa: S311 - not a secret
    chosen: list[int] = []
    for kind in (True, False):
        open_ones = [
            index
            for index, row in enumerate(rows.rows)
            if row.harmful is kind and not row.reply and len(row.prompt) <= LONGEST_ASKED
        ]
        chosen += rng.sample(open_ones, min(most // 2, len(open_ones)))
    if not chosen:
        return rows
    asked = [rows.rows[index] for index in chosen]
    texts = render([row.prompt for row in asked], model.tokenizer, template)
    replies = model.generate(texts, max_new_tokens=REPLY_TOKENS, progress=progress)
    refused = _refuses(replies)
    openings = [rng.choice(COMPLIANT) for _ in asked]
    forced = _continued(model, [t + o for t, o, r in zip(texts, openings, refused, strict=True) if r], progress)
    continued = iter(forced)
    found = list(rows.rows)
    for index, row, reply, refuses, opening in zip(chosen, asked, replies, refused, openings, strict=True):
        opposite = f"{opening} {next(continued)}".strip() if refuses else rng.choice(REFUSALS)
        if reply:
            found[index] = replace(row, reply=reply, refused=refuses, refuses=refuses)
        found.append(replace(row, reply=opposite, refused=_refuses([opposite])[0], refuses=refuses))
    return RowSet(rows.name, tuple(found))


def _continued(model: ChatModel, texts: Sequence[str], progress: ProgressCallback | None) -> list[str]:
    return model.generate(texts, max_new_tokens=REPLY_TOKENS, progress=progress) if texts else []


def _refuses(replies: Sequence[str]) -> list[bool]:
    verdicts: Iterable[Verdict] = PatternJudge().judge([""] * len(replies), replies)
    return [verdict is Verdict.REFUSED for verdict in verdicts]


def check_labels(rows: RowSet, heads: Sequence[str]) -> None:
    """Make sure that every guarding head has something to learn from: a head that was not taught guards nothing.

    Raises:
        DataError: a head has no positive or no negative row.
    """
    for head in heads:
        known = {labels(row, head)[0] for row in rows.rows}
        if head != REFUSAL and not {True, False} <= known:
            raise DataError(
                f"{rows.name}: a part of the rows has none that is {'not ' * (True in known)}{head!r}.",
                mend="Give some fifty examples a side: a tenth is kept to calibrate on, and a tenth to measure on.",
            )


def own_replies(
    prompts: PromptSet,
    model: ChatModel,
    template: Template,
    *,
    harmful: bool,
    progress: ProgressCallback | None = None,
) -> list[LabelledRow]:
    """Return prompts with the model's own replies."""
    texts = render(prompts.texts, model.tokenizer, template)
    replies = model.generate(texts, max_new_tokens=REPLY_TOKENS, progress=progress)
    return [
        LabelledRow(prompt, harmful=harmful, reply=reply, refused=refused, refuses=refused)
        for prompt, reply, refused in zip(prompts.texts, replies, _refuses(replies), strict=True)
    ]


def labels(row: LabelledRow, head: str) -> tuple[bool | None, bool | None]:
    """Return what a head should say at the prompt's end and in the reply; None where that is not known.

    A harmful request that was refused has a reply that is neither harmful nor evidence of harmlessness.
    """
    if head == HARM:
        return row.harmful, None if row.harmful and row.refused else row.harmful
    if head == REFUSAL:
        return row.refuses, row.refused
    against = row.values.get(head)
    return against, None if row.refused and against else against
