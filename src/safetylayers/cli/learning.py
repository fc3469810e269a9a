"""What `align reward` does: learn or train, test, and write the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from safetylayers.cli.shared import check_layers, layers_read, need_align_extra
from safetylayers.errors import UsageError
from safetylayers.records import ProgressCallback

if TYPE_CHECKING:
    from safetylayers.align.asked import Asked
    from safetylayers.align.reward_record import RewardRecord
    from safetylayers.align.trained import TrainedRecord
    from safetylayers.models import ChatModel
    from safetylayers.prompts import PairSet


@dataclass(frozen=True)
class Learning:
    """What was asked for, as the options say it."""

    model: str
    pairs: str
    map_folder: Path | None
    layers: str | None
    pool: Literal["mean", "last"] | None
    people: bool
    tests: tuple[str, ...]
    values: Path | None
    train: Literal["lora", "all"] | None
    steps: int | None
    learning_rate: float | None
    batch_size: int | None
    lora_rank: int | None
    limit: int | None
    output: Path
    seed: int
    dtype: str | None
    device: str | None

    def check(self) -> None:
        """Make sure that the options go together. Raises UsageError."""
        training = {
            "--steps": self.steps,
            "--learning-rate": self.learning_rate,
            "--batch-size": self.batch_size,
            "--lora-rank": self.lora_rank,
        }
        reading = {"--map": self.map_folder, "--layers": self.layers, "--pool": self.pool, "--people": self.people}
        if self.train is None:
            _refuse(training, "belongs to --train.", "Add --train lora or --train all, or leave it out.")
            check_layers(self.map_folder, self.layers)
            return
        _refuse(
            reading, "has no meaning with --train, which reads no layers and counts all choices alike.", "Leave it out."
        )
        if self.train == "all":
            _refuse({"--lora-rank": self.lora_rank}, "belongs to --train lora.", "Leave it out, or train with lora.")
        if self.learning_rate == 0:
            raise UsageError("With a learning rate of 0 nothing is learned.", mend="Give one above 0.")


def _refuse(options: Mapping[str, object], why: str, mend: str) -> None:
    for name, given in options.items():
        if given not in (None, False):
            raise UsageError(f"{name} {why}", mend=mend)


def learn(asked_for: Learning, progress: ProgressCallback) -> tuple[RewardRecord | TrainedRecord, Path]:
    """Return the record of what was learned, and where its report is. Raises UsageError, DataError and more."""
    from safetylayers.models import ChatModel
    from safetylayers.prompts import load_pairs

    asked_for.check()
    choices = load_pairs(asked_for.pairs, limit=asked_for.limit)
    tests = _load_tests(asked_for.tests, choices)
    asked = _load_asked(asked_for.values, choices)
    source = ChatModel.load(asked_for.model, dtype=asked_for.dtype, device=asked_for.device)
    work = _train if asked_for.train else _read
    return work(asked_for, source, choices, tests, asked, progress)


def _load_tests(sources: tuple[str, ...], choices: PairSet) -> list[PairSet]:
    """Load them, and make sure before anything is learned that each can be tested on. Raises UsageError, DataError."""
    from safetylayers.align.accuracy import value_names
    from safetylayers.align.evaluation import fresh
    from safetylayers.align.folds import prompt_keys
    from safetylayers.prompts import load_pairs

    known, values = frozenset(prompt_keys(choices)), list(dict.fromkeys(value_names(choices)))
    found: dict[str, PairSet] = {}
    for source in sources:
        pairs = load_pairs(source)
        if pairs.name in found:  # two files of one name in different folders
            pairs = replace(pairs, name=source)
        fresh(pairs, known, values)
        found[pairs.name] = pairs
    return list(found.values())


def _load_asked(path: Path | None, choices: PairSet) -> Asked | None:
    """Raises DataError, or UsageError where the file has floors."""
    if path is None:
        return None
    from safetylayers.align.asked import Asked
    from safetylayers.prompts.values import load_values

    return Asked.of(load_values(path), choices, name=path.name)


def _read(
    asked_for: Learning,
    source: ChatModel,
    choices: PairSet,
    tests: list[PairSet],
    asked: Asked | None,
    progress: ProgressCallback,
) -> tuple[RewardRecord, Path]:
    from safetylayers.align.evaluation import evaluate_reward
    from safetylayers.align.pages import reward_page
    from safetylayers.align.reward import learn_reward
    from safetylayers.report import write_page

    read = layers_read(source, asked_for.map_folder, asked_for.layers)
    learned = learn_reward(
        source,
        choices,
        layers=read,
        pool=asked_for.pool or "mean",
        weigh_people=asked_for.people,
        seed=asked_for.seed,
        progress=progress,
    )
    reward = replace(learned.reward, record=learned.reward.record.with_asked(asked))
    reward.save(asked_for.output)  # before tests, which may be long
    found = {pairs.name: evaluate_reward(reward, source, pairs, learned=choices, progress=progress) for pairs in tests}
    if found:
        reward = replace(reward, record=reward.record.model_copy(update={"tests": found}))
        reward.save(asked_for.output)
    page = reward_page(learned._replace(reward=reward), choices)
    return reward.record, write_page(page, asked_for.output / "report.html")


def _train(
    asked_for: Learning,
    source: ChatModel,
    choices: PairSet,
    tests: list[PairSet],
    asked: Asked | None,
    progress: ProgressCallback,
) -> tuple[TrainedRecord, Path]:
    """Train and test; with no other choices to test on, on those about a fifth of the prompts, not trained on."""
    need_align_extra()
    from safetylayers.align.folds import hold_out
    from safetylayers.align.modelling import train_reward_model
    from safetylayers.align.pages import trained_page
    from safetylayers.align.trained import measure_trained
    from safetylayers.align.trl_settings import is_first
    from safetylayers.report import write_page

    if not tests:
        choices, held = hold_out(choices, asked_for.seed)
        tests = [held]
    train_reward_model(
        source,
        choices,
        output=asked_for.output,
        lora_rank=0 if asked_for.train == "all" else asked_for.lora_rank or 16,
        learning_rate=asked_for.learning_rate or 2e-4,
        steps=asked_for.steps or 200,
        batch_size=asked_for.batch_size or 16,
        seed=asked_for.seed,
        progress=progress,
    )
    if not is_first():  # of several processes one measures and writes
        raise typer.Exit
    record = measure_trained(asked_for.output, source, choices, tests, asked=asked, progress=progress)
    return record, write_page(trained_page(record), asked_for.output / "report.html")
