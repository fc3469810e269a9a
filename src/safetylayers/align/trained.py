"""A reward model that is trained, and tested on choices that it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from safetylayers.align.asked import Asked
from safetylayers.align.evaluation import evaluate_reward_model
from safetylayers.align.modelling import RewardModel, RewardModelResult
from safetylayers.align.reward_record import RewardTest
from safetylayers.prompts.pairs import PairSet
from safetylayers.records import ProgressCallback, Record

if TYPE_CHECKING:
    from safetylayers.models import ChatModel

NAME = "accuracy.json"


class TrainedRecord(Record):
    """A trained reward model, and how well it foresees."""

    model: RewardModelResult
    tests: dict[str, RewardTest]
    asked: Asked | None = None
    """What a values file asks for."""


def measure_trained(
    output: Path,
    model: ChatModel,
    learned: PairSet,
    tests: Sequence[PairSet],
    *,
    asked: Asked | None = None,
    progress: ProgressCallback | None = None,
) -> TrainedRecord:
    """Test a reward model that was saved, and write the record beside it as `accuracy.json`.

    Args:
        output: where `train_reward_model` saved it.
        model: on whose device it is to run.
        learned: choices that it was trained on.
        tests: other choices.
        asked: what a values file asks for.
        progress: told while replies are scored.

    Raises:
        UsageError: nothing is left to test on.
        OutputError: the record cannot be written.
    """
    trained = RewardModel.load(output, device=str(model.model.device))
    found = {pairs.name: evaluate_reward_model(trained, pairs, learned=learned, progress=progress) for pairs in tests}
    record = TrainedRecord(model=trained.result, tests=found, asked=asked)
    record.write(output / NAME)
    return record
