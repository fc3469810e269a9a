"""TRL's stable trainers, one a method."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import PrinterCallback, Trainer

from safetylayers.align.policy.plan import PolicyPlan
from safetylayers.align.scoring import Scorer, lower_bound
from safetylayers.align.trl_settings import trl_settings

if TYPE_CHECKING:
    from safetylayers.models import ChatModel
    from safetylayers.prompts.pairs import Turn


@dataclass(frozen=True)
class Making:
    """What a trainer is made of."""

    plan: PolicyPlan
    model: ChatModel
    """The copy that is trained."""
    reference: ChatModel
    trained: Any
    """Its transformers model, or the same with adapters."""
    rows: list[dict[str, Any]]
    """In the order in which they are learned from."""
    scorer: Scorer | None
    folder: Path
    """Of the checkpoints."""
    save_every: int
    callbacks: list[Any]

    def trainer(self) -> Trainer:
        """Return the method's trainer."""
        from datasets import Dataset

        make = {"sft": self._sft, "dpo": self._dpo, "grpo": self._grpo, "rloo": self._rloo}[self.plan.method]
        made = make(
            model=self.trained,
            train_dataset=Dataset.from_list(self.rows),
            processing_class=self.model.tokenizer,
            callbacks=self.callbacks,
        )
        made.remove_callback(PrinterCallback)
        return made

    def _settings(self, rows: int) -> dict[str, Any]:
        plan = self.plan
        return trl_settings(
            self.model, self.folder, learning_rate=plan.learning_rate, steps=plan.steps, rows=rows,
            save_every=self.save_every, seed=plan.seed,
        )  # fmt: skip

    def _sft(self, **given: Any) -> Trainer:
        from trl import SFTConfig, SFTTrainer

        settings = self._settings(self.plan.batch_size) | {"train_sampling_strategy": "sequential"}
        made: Trainer = SFTTrainer(args=SFTConfig(max_length=self.plan.max_length, **settings), **given)
        return made

    def _dpo(self, **given: Any) -> Trainer:
        from trl import DPOConfig, DPOTrainer

        settings = self._settings(self.plan.batch_size) | {"train_sampling_strategy": "sequential"}
        config = DPOConfig(max_length=self.plan.max_length, beta=self.plan.beta, **settings)
        # TRL puts a forward of its own into both models, which is not to stay in the user's.
        reference = None if self.plan.lora_rank else copy.deepcopy(self.reference.model)
        made: Trainer = DPOTrainer(args=config, ref_model=reference, **given)
        return made

    def _grpo(self, **given: Any) -> Trainer:
        from trl import GRPOConfig, GRPOTrainer

        made: Trainer = GRPOTrainer(args=GRPOConfig(**self._online()), reward_funcs=self._reward, **given)
        return made

    def _rloo(self, **given: Any) -> Trainer:
        from trl import RLOOConfig, RLOOTrainer

        made: Trainer = RLOOTrainer(args=RLOOConfig(**self._online()), reward_funcs=self._reward, **given)
        return made

    def _online(self) -> dict[str, Any]:
        plan = self.plan
        return self._settings(plan.batch_size * plan.replies) | {
            "beta": plan.beta,
            "num_generations": plan.replies,
            "max_completion_length": plan.max_new_tokens,
            "shuffle_dataset": False,
            "temperature": 1.0,
        }

    def _reward(
        self, prompts: Sequence[Sequence[Turn]], completions: Sequence[Sequence[Turn]], **_: Any
    ) -> list[float]:
        # TRL hands over all it knows of the rows and of the trainer.
        assert self.scorer is not None
        replies = [completion[-1]["content"] for completion in completions]
        return [float(r) for r in lower_bound(self.scorer, prompts, replies, penalty=self.plan.penalty)]
