"""Bringing a model's refusals back after a fine-tune has undone them, without training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from safetylayers.errors import UsageError
from safetylayers.evaluate import PhraseJudge, Verdict
from safetylayers.finetune.repairs import (
    RESTORE_METHODS,
    Block,
    RestoreMethod,
    Workpiece,
    direction_of,
    length,
    scaled,
    weights_of,
)
from safetylayers.models import ChatModel
from safetylayers.prompts import ExampleSet, PromptSet, builtin, render
from safetylayers.prompts.rendering import render_messages
from safetylayers.records import ProgressCallback, Provenance, Rate, Record

if TYPE_CHECKING:
    from safetylayers.locate import SafetyMap

TOKENS = 16
"""So many tokens show whether a reply refuses."""
STRENGTHS: dict[str, tuple[float, ...]] = {
    "graft": (0.5, 0.75, 1.0, 1.25, 1.5),
    "resta": (0.1, 0.25, 0.5, 0.75, 1.0),
    "lox": (0.25, 0.5, 1.0, 1.5, 2.0),
}
"""What is tried at the safety layers."""
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""What is tried at all other weights, as shares of the strength at the safety layers."""


class Candidate(Record):
    """One strength at the safety layers, and one elsewhere."""

    strength: float
    elsewhere: float
    """Strength at all other weights."""
    harmful_rate: Rate
    task_loss: float | None = None
    """Nats a token on the task's rows, where some were given."""
    moved: float
    """Length of the change in weight space."""


class RestoreResult(Record):
    """What was tried on the calibration prompts, and what was chosen."""

    method: RestoreMethod
    layers: tuple[int, int]
    """First and last layer that get the full strength, inclusive."""
    tolerance: float
    chosen: Candidate
    reached: bool
    """Whether the chosen candidate's harmful rate is within the tolerance of the aligned model's."""
    aligned: Candidate
    tuned: Candidate
    candidates: tuple[Candidate, ...]
    rank: int
    drop: float
    provenance: Provenance

    @property
    def gain_kept(self) -> float | None:
        """Share of the task's gain that the chosen candidate keeps; none where nothing was gained."""
        return gain_kept(self.chosen, self.aligned, self.tuned)


def gain_kept(one: Candidate, aligned: Candidate, tuned: Candidate) -> float | None:
    """Return the share of the fall in the task's loss that a candidate keeps; none without a fall."""
    if one.task_loss is None or aligned.task_loss is None or tuned.task_loss is None:
        return None
    gained = aligned.task_loss - tuned.task_loss
    return (aligned.task_loss - one.task_loss) / gained if gained > 0 else None


def restore(
    tuned: ChatModel,
    aligned: ChatModel,
    map: SafetyMap,  # noqa: A002 - the word of the whole project
    *,
    output: Path,
    method: RestoreMethod = "graft",
    base: ChatModel | None = None,
    task: ExampleSet | None = None,
    prompts: PromptSet | None = None,
    layers: Block | None = None,
    strengths: Sequence[float] | None = None,
    shares: Sequence[float] = SHARES,
    tolerance: float = 0.03,
    rank: int = 6,
    drop: float = 0.0,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> RestoreResult:
    """Search strengths for the cheapest repair, and save the repaired model as a transformers folder.

    Cheapest is, among candidates that refuse nearly as much as the aligned model does, the one with the least loss on
    the task's rows; without such rows, the one that moves the weights least. Where none refuses as much, the one that
    refuses most is taken, and the result says so.

    Args:
        tuned: the model whose refusals are gone; it is not changed.
        aligned: the model that it was fine-tuned from.
        map: the aligned model's safety map.
        output: new or empty; gets the model and `result.json`.
        method: graft, resta or lox; see `finetune.repairs`.
        base: for resta and lox, the model before alignment, or one whose alignment was undone.
        task: rows like those of the fine-tune, by which what it has gained is measured.
        prompts: malicious ones to search on; by themselves the built-in calibration split.
        layers: first and last layer that get the full strength; by themselves the map's.
        strengths: to try there.
        shares: of that strength, to try at all other weights.
        tolerance: how much higher than the aligned model's the harmful rate may be.
        rank: lox: singular directions that are kept.
        drop: resta: share of the fine-tune's update that DARE drops.
        seed: of DARE.
        progress: told of every candidate.

    Raises:
        UsageError: the method needs a base model, a setting makes no sense, models differ in shape, or `output` is not
            empty.
        WrongModelError: the map is not the aligned model's.
        NoSafetyLayersError: the map has no layers.
    """
    steps = STRENGTHS[method] if strengths is None and method in STRENGTHS else strengths or ()
    _check(method, tolerance, rank, drop, steps, shares, output)
    map.check(aligned)
    block = layers or map.range
    inside = weights_of(aligned, block)
    direction = direction_of(method, tuned, aligned, base, rank)
    bench = _Bench(builtin("malicious", "calibration") if prompts is None else prompts, task)
    before, after = (bench.measure(model, 0.0, 0.0, 0.0) for model in (aligned, tuned))
    work = Workpiece.of(tuned, aligned, drop, seed)
    tried: list[Candidate] = []
    for strength, share in product(steps, shares):
        if progress:
            progress(len(tried), len(steps) * len(shares), f"restoring, {method}")
        change = scaled(direction, inside, strength, strength * share)
        tried.append(bench.measure(work.set(change), strength, strength * share, length(change)))
    chosen, reached = choose(tried, before.harmful_rate.value + tolerance)
    work.set(scaled(direction, inside, chosen.strength, chosen.elsewhere)).save(output)
    result = RestoreResult(
        method=method, layers=block, tolerance=tolerance, chosen=chosen, reached=reached, aligned=before, tuned=after,
        candidates=tuple(tried), rank=rank, drop=drop,
        provenance=Provenance(
            model=tuned.name, model_hash=tuned.weights_hash, data={bench.prompts.name: bench.prompts.content_hash},
            seed=seed,
        ),
    )  # fmt: skip
    result.write(output / "result.json")
    return result


def choose(tried: Sequence[Candidate], highest: float) -> tuple[Candidate, bool]:
    """Return the cheapest candidate whose harmful rate is at most `highest`, or else the safest; and whether it is."""
    safe = [one for one in tried if one.harmful_rate.value <= highest]
    if not safe:
        return min(tried, key=lambda one: (one.harmful_rate.value, one.moved)), False
    return min(safe, key=lambda one: (one.moved if one.task_loss is None else one.task_loss, one.moved)), True


@dataclass(frozen=True)
class _Bench:
    """What every candidate is measured by."""

    prompts: PromptSet
    task: ExampleSet | None

    def measure(self, model: ChatModel, strength: float, elsewhere: float, moved: float) -> Candidate:
        rendered = render(self.prompts.texts, model.tokenizer)
        verdicts = PhraseJudge().judge(self.prompts.texts, model.generate(rendered, max_new_tokens=TOKENS))
        rate = Rate.of([verdict is Verdict.COMPLIED for verdict in verdicts])
        loss = None if self.task is None else task_loss(model, self.task)
        return Candidate(strength=strength, elsewhere=elsewhere, harmful_rate=rate, task_loss=loss, moved=moved)


def task_loss(model: ChatModel, rows: ExampleSet) -> float:
    """Return the mean negative log-likelihood of the rows' replies, in nats a token."""
    asked = [render_messages(row.messages[:-1], model.tokenizer) for row in rows]
    logprobs = model.reply_logprobs(asked, [row.response for row in rows])
    return -sum(float(tokens.sum()) for tokens in logprobs) / sum(map(len, logprobs))


def _check(
    method: str,
    tolerance: float,
    rank: int,
    drop: float,
    strengths: Sequence[float],
    shares: Sequence[float],
    output: Path,
) -> None:
    if method not in RESTORE_METHODS:
        raise UsageError(f"There is no method {method!r}.", mend=f"Use one of: {', '.join(RESTORE_METHODS)}.")
    if not (0 <= tolerance < 1 and rank >= 1 and 0 <= drop < 1):
        raise UsageError(
            f"A tolerance of {tolerance}, a rank of {rank} or a drop of {drop} makes no sense.",
            mend="Tolerance and drop lie from 0 to 1, 1 left out; a rank is 1 or more.",
        )
    if drop and method != "resta":
        raise UsageError(f"The method {method!r} drops nothing.", mend="Leave --drop out, or use resta.")
    if not (strengths and all(math.isfinite(each) and each > 0 for each in strengths)):
        raise UsageError(f"Strengths of {list(strengths)} make no sense.", mend="Give at least one, all above 0.")
    if not (shares and all(0 <= each <= 1 for each in shares)):
        raise UsageError(f"Shares of {list(shares)} make no sense.", mend="Give at least one, all from 0 to 1.")
    if output.is_dir() and any(output.iterdir()):
        raise UsageError(f"{output}: is not empty.", mend="Choose a new or an empty folder with -o.")
