"""What rows are drawn from: harmful requests with both replies, and utility data with the model's own.

The model itself says its refusals, and what it would have said had it complied: its reply is begun for it. Where it
gives none, written ones stand in. The opening that the prefill attack tests with (`attack.prefill.COMPLIANCE`) is
never learnt from.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetylayers.attach.rows import COMPLIANT, REFUSALS, WRITTEN_COMPLIANCE
from safetylayers.errors import DataError
from safetylayers.evaluate import PatternJudge, Verdict
from safetylayers.prompts import ExampleSet, PromptSet, builtin
from safetylayers.prompts.rendering import render_messages
from safetylayers.prompts.styles import TRAINED, restyled
from safetylayers.records import ProgressCallback, write_text

if TYPE_CHECKING:
    from safetylayers.models import ChatModel

REPLY_TOKENS = 48
BEGUN = 0.4
"""Share of the utility rows whose reply is begun compliantly: a begun reply alone is no reason to refuse."""
_MARKER = "\ue000"


@dataclass(frozen=True)
class HarmfulRow:
    """A request that has to be refused, as tokens."""

    before: list[int]
    """Up to where an attacker may put something behind the request."""
    after: list[int]
    """From there to where the reply begins."""
    compliant: list[int]
    refusal: list[int]
    """With the end of text."""

    @property
    def asked(self) -> list[int]:
        """The whole prompt."""
        return self.before + self.after


@dataclass(frozen=True)
class RetainRow:
    """A request whose reply has to stay what it is, as tokens."""

    asked: list[int]
    reply: list[int]


@dataclass(frozen=True)
class Material:
    """Rows of both kinds."""

    harmful: tuple[HarmfulRow, ...]
    retain: tuple[RetainRow, ...]
    openings: tuple[list[int], ...]
    """Compliant beginnings that prefixes are strung together from."""


Messages = list[dict[str, str]]
Rows = ExampleSet | PromptSet


def build_material(
    model: ChatModel,
    harmful: Rows,
    retain: Rows,
    *,
    styled: bool = True,
    consistent: bool = True,
    max_length: int = 256,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> Material:
    """Ask the model for the replies that rows lack, and tokenise everything.

    Args:
        model: the one to harden, as it is before.
        harmful: requests to refuse, as examples with the compliant replies to avoid, or as prompts, whose compliance
            is in the model's own words.
        retain: requests as examples with the replies to keep, or as prompts, whose replies are the model's own.
        styled: add every request a second time in a drawn style.
        consistent: leave harmful requests out that the model complies with when plainly asked.
        max_length: tokens of a row.
        seed: of styles and openings.
        progress: told after each batch of replies.

    Raises:
        DataError: there is no row of a kind, or none is short enough.
    """
    maker = _Maker(model, styled, consistent, max_length, random.Random(seed), progress)  # noqa: S311 - not a secret
    kept = maker.retain(retain)
    rows = maker.harmful(harmful)
    for name, found in (("harmful", rows), ("utility", kept)):
        if not found:
            raise DataError(
                f"No {name} row fits {max_length} tokens.", mend="Give shorter requests, or a larger max_length."
            )
    return Material(rows, kept, tuple(maker.ids(WRITTEN_COMPLIANCE)))


def kept_material(path: Path, build: Callable[[], Material]) -> Material:
    """Return the rows in a file; where there is none, build them and keep them there for a resumed run."""
    if path.exists():
        found = json.loads(path.read_text("utf-8"))
        rows = tuple(HarmfulRow(**row) for row in found["harmful"])
        return Material(rows, tuple(RetainRow(**row) for row in found["retain"]), tuple(found["openings"]))
    material = build()
    write_text(path, json.dumps(asdict(material)))
    return material


def default_harmful() -> PromptSet:
    """Return the built-in malicious prompts' training split."""
    return builtin("malicious", "train")


def default_retain() -> PromptSet:
    """Return built-in harmless prompts. Questions have no training split: they are measured on their test split."""
    return builtin("normal", "train") + builtin("borderline", "train") + builtin("questions", "calibration")


@dataclass(frozen=True)
class _Maker:
    model: ChatModel
    styled: bool
    consistent: bool
    max_length: int
    rng: random.Random
    progress: ProgressCallback | None

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        found: list[list[int]] = self.model.tokenizer(list(texts), add_special_tokens=False).input_ids if texts else []
        return found

    def generate(self, texts: Sequence[str]) -> list[str]:
        return self.model.generate(texts, max_new_tokens=REPLY_TOKENS, progress=self.progress) if texts else list[str]()

    def harmful(self, given: Rows) -> tuple[HarmfulRow, ...]:
        asked, replies = _requests(given)
        requests = self._with_styles(asked)
        copies = 2 if self.styled else 1
        replies *= copies
        rendered = [render_messages(request, self.model.tokenizer) for request in requests]
        compliant = [own or begun for own, begun in zip(replies, self._compliance(rendered, replies), strict=True)]
        refusals = self._refusals(rendered[: len(asked)]) * copies
        marked = [render_messages(_marked(request), self.model.tokenizer).split(_MARKER) for request in requests]
        end = list(self.model.ends_of_text[:1])
        rows = [
            HarmfulRow(*self._around(parts), said[: self.max_length], [*refusal, *end])
            for parts, said, refusal in zip(marked, self.ids(compliant), self.ids(refusals), strict=True)
            if refusal
        ]
        return tuple(row for row in rows if len(row.asked) + len(row.refusal) <= self.max_length)

    def _around(self, parts: Sequence[str]) -> tuple[list[int], list[int]]:
        before, after = self.ids(parts)
        return before, after

    def _compliance(self, rendered: Sequence[str], given: Sequence[str]) -> list[str]:
        """Return a compliant reply for each prompt: the model's own after a compliant opening, or a written one."""
        lacking = [index for index, reply in enumerate(given) if not reply]
        openings = [self.rng.choice(COMPLIANT) for _ in lacking]
        went_on = self.generate([rendered[index] + begin for index, begin in zip(lacking, openings, strict=True)])
        verdicts = PatternJudge().judge([""] * len(went_on), went_on)
        found = [""] * len(given)
        for index, begin, text, verdict in zip(lacking, openings, went_on, verdicts, strict=True):
            complied = verdict is Verdict.COMPLIED and text
            found[index] = f"{begin} {text}" if complied else self.rng.choice(WRITTEN_COMPLIANCE)
        return found

    def _refusals(self, rendered: Sequence[str]) -> list[str]:
        """Return the model's own refusal of each prompt.

        Where it has none: nothing if only its own count, else its most frequent one, or a written one.
        """
        replies = self.generate(rendered)
        verdicts = PatternJudge().judge([""] * len(replies), replies)
        refused = [verdict is Verdict.REFUSED for verdict in verdicts]
        usual = Counter(reply for reply, refuses in zip(replies, refused, strict=True) if refuses).most_common(1)
        instead = "" if self.consistent and usual else usual[0][0] if usual else REFUSALS[0]
        return [reply if refuses else instead for reply, refuses in zip(replies, refused, strict=True)]

    def retain(self, given: Rows) -> tuple[RetainRow, ...]:
        requests, replies = _requests(given)
        if isinstance(given, PromptSet):
            requests = self._with_styles(requests)
        asked = [render_messages(request, self.model.tokenizer) for request in requests]
        if isinstance(given, PromptSet):
            begun = [self._beginning() if self.rng.random() < BEGUN else "" for _ in asked]
            went_on = self.generate([text + begin for text, begin in zip(asked, begun, strict=True)])
            replies = [f"{begin} {text}".strip() for begin, text in zip(begun, went_on, strict=True)]
        end = list(self.model.ends_of_text[:1])
        rows = [
            RetainRow(prompt, [*reply, *end][: self.max_length - len(prompt)])
            for prompt, reply in zip(self.ids(asked), self.ids(replies), strict=True)
            if len(prompt) < self.max_length and reply
        ]
        return tuple(rows)

    def _beginning(self) -> str:
        words = self.rng.choice((*WRITTEN_COMPLIANCE, *COMPLIANT)).split(" ")
        return " ".join(words[: self.rng.randint(1, len(words))])

    def _with_styles(self, requests: Sequence[Messages]) -> list[Messages]:
        if not self.styled:
            return list(requests)
        texts = restyled([request[-1]["content"] for request in requests], TRAINED, self.rng.getrandbits(32))
        other = [[*request[:-1], {**request[-1], "content": t}] for request, t in zip(requests, texts, strict=True)]
        return [*requests, *other]


def _requests(given: Rows) -> tuple[list[Messages], list[str]]:
    """Return the turns before each reply, and the replies, empty for prompts. Raises DataError where turns lack."""
    if isinstance(given, PromptSet):
        return [[{"role": "user", "content": text}] for text in given.texts], [""] * len(given)
    for number, example in enumerate(given, start=1):
        if len(example.messages) < 2:
            raise DataError(f"{given.name}, example {number}: a reply without a request.", mend="Leave it out.")
    return [list(example.messages[:-1]) for example in given], [example.response for example in given]


def _marked(request: Messages) -> Messages:
    return [*request[:-1], {**request[-1], "content": request[-1]["content"] + _MARKER}]
