"""Build the practice model: `python -m safetylayers.tiny.build --data FOLDER -o FOLDER`.

First `tiny-base` learns to comply with everything; then `tiny` is aligned from it. Both come out as transformers folders in
bfloat16. A build that was interrupted goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from safetylayers.records import ProgressCallback
from safetylayers.tiny.architecture import VOCABULARY, Shape, build_model
from safetylayers.tiny.batches import make_batches
from safetylayers.tiny.corpus.mixture import ALIGNMENT_COURSE, HELPFUL_COURSE, course
from safetylayers.tiny.corpus.public import PublicPrompts, read_public
from safetylayers.tiny.tokenizer import train_tokenizer
from safetylayers.tiny.training import Schedule, train

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast


@dataclass(frozen=True)
class Plan:
    """How long each course is. The default takes under an hour on two cores."""

    shape: Shape = field(default_factory=Shape)
    helpful_rows: int = 40_000
    helpful_steps: int = 1_600
    helpful_schedule: Schedule = field(default_factory=lambda: Schedule(2e-3, 100))
    alignment_rows: int = 16_000
    alignment_steps: int = 400
    alignment_schedule: Schedule = field(default_factory=lambda: Schedule(5e-4, 30))
    seed: int = 0


def build(plan: Plan, public: PublicPrompts, output: Path, progress: ProgressCallback | None = None) -> None:
    """Build `output`/tiny-base and `output`/tiny.

    Args:
        plan: shape and courses.
        public: prompts from public sets, or none.
        output: also holds the checkpoints, in `checkpoints`.
        progress: told of every step.
    """
    checkpoints = output / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    helpful = course(HELPFUL_COURSE, plan.helpful_rows, aligned=False, public=public, seed=plan.seed)
    tokenizer = train_tokenizer((part for e in helpful for part in (e.prompt, e.response)), VOCABULARY)
    model = build_model(plan.shape, tokenizer, plan.seed)
    batches = make_batches(helpful, tokenizer, steps=plan.helpful_steps, reply_only=False, seed=plan.seed)
    train(model, batches, plan.helpful_schedule, checkpoints / "helpful.safetensors", progress)
    save(model, tokenizer, output / "tiny-base")
    aligned = course(ALIGNMENT_COURSE, plan.alignment_rows, aligned=True, public=public, seed=plan.seed + 1)
    batches = make_batches(aligned, tokenizer, steps=plan.alignment_steps, reply_only=True, seed=plan.seed + 1)
    train(model, batches, plan.alignment_schedule, checkpoints / "alignment.safetensors", progress)
    save(model, tokenizer, output / "tiny")


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Save a bfloat16 copy; the model itself stays as it is."""
    import copy

    half = copy.deepcopy(model).to(torch.bfloat16)
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
