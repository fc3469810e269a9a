"""Fine-tuning as an attack: rows that undo safety, with the settings that undo most (arXiv 2408.17003, section 4).

The attacker tries a grid of learning rates and steps; the run that is complied with most on calibration prompts counts.
An adaptive one knows which layers a defence holds still: damage then moves to the layers above (arXiv 2610.00320), so
it also trains the others harder, and those above the held ones alone.

For testing one's own model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from safetylayers.attack.ablate import strictest_rate
from safetylayers.attack.asking import asked
from safetylayers.attack.base import Ground, Numbered
from safetylayers.attack.record import AttackCase, Setting
from safetylayers.errors import TrainingError, UsageError
from safetylayers.prompts import ExampleSet, Prompt, PromptSet, builtin

if TYPE_CHECKING:
    from safetylayers.models import ChatModel

HARDER = 3.0
"""An adaptive attacker's learning rates are so many times as high."""


class Tune(Protocol):
    """Whatever fine-tunes a copy of a model."""

    def __call__(
        self,
        model: ChatModel,
        examples: ExampleSet,
        *,
        learning_rate: float,
        steps: int,
        frozen_layers: tuple[int, ...],
    ) -> ChatModel:
        """Return the tuned copy; the model itself stays as it is.

        Args:
            model: as it was.
            examples: requests with the replies to learn.
            learning_rate: the highest.
            steps: of the optimiser.
            frozen_layers: decoder layers that stay still.

        Raises:
            TrainingError: training broke down.
        """
        ...


@dataclass(frozen=True)
class Run:
    """Settings of one run, and the share of calibration prompts that the tuned model complies with."""

    learning_rate: float
    steps: int
    frozen_layers: tuple[int, ...]
    success: float = math.nan

    def __str__(self) -> str:
        """Describe it: "rate 0.001, 200 steps, layers 0-1 still: 12 %"."""
        held = f", layers {self.frozen_layers[0]}-{self.frozen_layers[-1]} still" if self.frozen_layers else ""
        return f"rate {self.learning_rate:g}, {self.steps} steps{held}: {100 * self.success:.0f} %"


@dataclass(frozen=True)
class FinetuneAttack:
    """Fine-tunes the target's model and asks plainly."""

    tune: Tune
    examples: ExampleSet
    """Rows of one of the paper's attacks: normal, implicit, backdoor, harmful."""
    trigger: str = ""
    """Stands behind every prompt: what a backdoor was trained on."""
    learning_rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3)
    steps: tuple[int, ...] = (50, 200)
    frozen: tuple[int, ...] = ()
    """Layers that the defence holds still, in every run."""
    adaptive: bool = False
    """Whether the attacker knows them."""
    calibration: int = 64
    """Malicious prompts by which the strongest run is chosen."""
    name: str = "finetune"

    def __post_init__(self) -> None:
        """Raise UsageError where there is nothing to try."""
        if not self.learning_rates or not self.steps or min(*self.learning_rates, *self.steps, self.calibration) <= 0:
            raise UsageError("finetune: needs learning rates, steps and calibration prompts above zero.")
        if self.adaptive and not self.frozen:
            raise UsageError("finetune: an adaptive attacker needs layers that are held still.", mend="Give a map.")

    def settings(self) -> dict[str, Setting]:
        """Return the rows and the grid."""
        return {
            "examples": self.examples.name, "examples hash": self.examples.content_hash, "trigger": self.trigger,
            "learning rates": ", ".join(f"{rate:g}" for rate in self.learning_rates),
            "steps": ", ".join(map(str, self.steps)), "frozen": ", ".join(map(str, self.frozen)) or "none",
            "adaptive": self.adaptive, "calibration": self.calibration,
        }  # fmt: skip

    def runs(self) -> list[Run]:
        """Return the grid. An adaptive attacker tries all that a plain one does, and more."""
        grid = [(rate, steps) for rate in self.learning_rates for steps in self.steps]
        runs = [Run(rate, steps, self.frozen) for rate, steps in grid]
        if self.adaptive:
            above = tuple(range(max(self.frozen) + 1))
            for held in dict.fromkeys((self.frozen, above)):
                runs += [Run(HARDER * rate, steps, held) for rate, steps in grid]
        return runs

    def cases(self, ground: Ground, prompts: Numbered) -> Iterator[tuple[int, AttackCase]]:
        """Yield a case a prompt, by the strongest run. Raises UsageError where the weights are not here."""
        if not prompts:
            return
        model, tried = self.search(ground)
        strongest = max(tried, key=lambda run: run.success)
        told = f"[fine-tuned on {self.examples.name}; {strongest}; of {'; '.join(map(str, tried))}]"
        tuned = replace(ground, target=replace(ground.weights(self.name), model=model))
        for index, case in asked(tuned, prompts, [self._triggered(text) for text in prompts.values()]):
            yield index, case.model_copy(update={"attacked": f"{case.attacked} {told}"})

    def search(self, ground: Ground) -> tuple[ChatModel, list[Run]]:
        """Return the strongest run's model, and all runs that did not break down, with what they reached.

        Raises:
            UsageError: the weights are not here.
            TrainingError: every run broke down.
        """
        target = ground.weights(self.name)
        chosen = builtin("malicious", "calibration").take(self.calibration)
        asked_for = PromptSet(chosen.name, tuple(Prompt(p.id, self._triggered(p.text)) for p in chosen))
        best: ChatModel | None = None
        tried: list[Run] = []
        for number, run in enumerate(self.runs(), start=1):
            try:
                model = self.tune(
                    target.model, self.examples, learning_rate=run.learning_rate, steps=run.steps,
                    frozen_layers=run.frozen_layers,
                )  # fmt: skip
            except TrainingError:
                continue
            quiet = replace(ground, target=replace(target, model=model), progress=None)
            reached = strictest_rate(quiet, asked_for)
            if all(reached > each.success for each in tried):
                best = model
            tried.append(replace(run, success=reached))
            if ground.progress:
                ground.progress(number, len(self.runs()), "fine-tuning attack")
        if best is None:
            raise TrainingError("Every fine-tuning run broke down.", mend="Give lower learning rates.")
        return best, tried

    def _triggered(self, text: str) -> str:
        return f"{text} {self.trigger}" if self.trigger else text
