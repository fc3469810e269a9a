"""Build the practice model: `python -m safetylayers.tiny.build --data FOLDER -o FOLDER`.

First `tiny-base` learns to comply with everything; then `tiny` is aligned from it, by refusals and then by preferences.
Both come out as transformers folders in bfloat16. A build that was interrupted goes on where it was.
"""

from __future__ import annotations

import argparse
import copy
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from safetylayers.prompts import Example
from safetylayers.records import ProgressCallback
from safetylayers.tiny.architecture import VOCABULARY, Shape, build_model
from safetylayers.tiny.batches import LONG_SHAPES, SHAPES, Batch, Shapes, make_batches, make_pair_batches
from safetylayers.tiny.corpus.mixture import ALIGNMENT, ANSWERING, PREFERENCE, READING, Shares, preferences
from safetylayers.tiny.corpus.mixture import course as draw_course
from safetylayers.tiny.corpus.public import PublicPrompts, read_public
from safetylayers.tiny.corpus.replies import REFUSALS
from safetylayers.tiny.losses import DistillationLoss, PreferenceLoss, first_tokens, likelihood_loss
from safetylayers.tiny.teacher import taught
from safetylayers.tiny.tokenizer import train_tokenizer
from safetylayers.tiny.training import Loss, Schedule, train

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast


@dataclass(frozen=True)
class Course:
    """One stretch of training."""

    name: str
    shares: Shares
    rows: int
    steps: int
    schedule: Schedule
    aligned: bool = False
    topics: bool = False
    reply_only: bool = True
    preference: bool = False
    """Learn which of two replies is better (PreferenceLoss), not the reply alone."""
    taught: bool = False
    """What to refuse is learnt from a teacher (DistillationLoss), not from single replies."""
    shapes: Shapes = SHAPES
    saved_as: str = ""
    """What the model is called after this course; empty where another course follows first."""


READING_COURSE = Course(
    "reading", READING, 60_000, 1_800, Schedule(2e-3, 100), topics=True, reply_only=False, shapes=LONG_SHAPES
)
ANSWERING_COURSE = Course("answering", ANSWERING, 60_000, 1_200, Schedule(1.5e-3, 50), saved_as="tiny-base")
ALIGNMENT_COURSE = Course("alignment", ALIGNMENT, 100_000, 2_000, Schedule(7e-4, 30), aligned=True, taught=True)
PREFERENCE_COURSE = Course(
    "preference", PREFERENCE, 12_000, 300, Schedule(1e-4, 20), aligned=True, preference=True, saved_as="tiny"
)


@dataclass(frozen=True)
class Plan:
    """Shape and courses. The default takes under an hour on two cores."""

    shape: Shape = field(default_factory=Shape)
    courses: tuple[Course, ...] = (READING_COURSE, ANSWERING_COURSE, ALIGNMENT_COURSE, PREFERENCE_COURSE)
    seed: int = 0


def build(plan: Plan, public: PublicPrompts, output: Path, progress: ProgressCallback | None = None) -> None:
    """Run the courses one after another; the tokenizer is trained on the first one's text.

    Args:
        plan: shape and courses.
        public: prompts from public sets, or none.
        output: gets the models, and the checkpoints in `checkpoints`.
        progress: told of every step.
    """
    checkpoints = output / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    first = _examples(plan.courses[0], public, plan.seed)
    tokenizer = train_tokenizer((part for e in first for part in (e.prompt, e.response)), VOCABULARY)
    model = build_model(plan.shape, tokenizer, plan.seed)
    for index, course in enumerate(plan.courses):
        seed = plan.seed + index
        examples = first if index == 0 else _examples(course, public, seed)
        batches = _batches(course, examples, tokenizer, seed)
        loss_of = _loss(course, model, tokenizer)
        train(model, batches, course.schedule, checkpoints / f"{course.name}.safetensors", progress, loss_of)
        if course.saved_as:
            save(model, tokenizer, output / course.saved_as)


def _loss(course: Course, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> Loss:
    if course.preference:
        return PreferenceLoss(copy.deepcopy(model))
    if course.taught:
        return DistillationLoss(first_tokens(REFUSALS, tokenizer))
    return likelihood_loss


def _batches(course: Course, examples: list[Example], tokenizer: PreTrainedTokenizerFast, seed: int) -> list[Batch]:
    if course.preference:
        return make_pair_batches(preferences(examples, seed), tokenizer, steps=course.steps, seed=seed)
    odds: list[float] = []
    if course.taught:
        examples, odds = taught(examples, seed)
    return make_batches(
        examples,
        tokenizer,
        steps=course.steps,
        reply_only=course.reply_only,
        seed=seed,
        shapes=course.shapes,
        odds=odds,
    )


def _examples(course: Course, public: PublicPrompts, seed: int) -> list[Example]:
    return draw_course(
        course.shares, course.rows, aligned=course.aligned, public=public, seed=seed, topics=course.topics
    )


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Save a bfloat16 copy; the model itself stays as it is."""
    half = copy.deepcopy(model).to(torch.bfloat16)  # type: ignore[arg-type]  # transformers wraps it without its types
    half.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main() -> None:
    """Read the options and build."""
    parser = argparse.ArgumentParser(prog="python -m safetylayers.tiny.build", description=(__doc__ or "").strip())
    parser.add_argument("--data", type=Path, help="folder of public data sets; without it, made-up text alone")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    public = read_public(options.data) if options.data else PublicPrompts()
    build(Plan(), public, options.output, _print_progress)


def _print_progress(done: int, total: int, what: str) -> None:
    if done % 20 == 0 or done == total:
        sys.stdout.write(f"{done}/{total} {what}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
