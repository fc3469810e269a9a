"""Over-optimisation, watched: what is optimised and what is wanted, against the distance from the reference.

A reward that is optimised goes on rising after what it stands for has begun to fall (arXiv 2210.10760). A second
reward that nothing is optimised for, learned from other choices, tells when.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from transformers import TrainerCallback

from safetylayers.align.bayes import Array
from safetylayers.align.policy.plan import Look
from safetylayers.align.scoring import Scorer, lower_bound, scored
from safetylayers.errors import NonFiniteLossError, OutputError
from safetylayers.evaluate import PhraseJudge, Verdict
from safetylayers.models.batching import run_batched
from safetylayers.prompts.pairs import Turn
from safetylayers.prompts.rendering import render_messages
from safetylayers.records import write_text

if TYPE_CHECKING:
    from safetylayers.models import ChatModel

REPLIES = 2
"""Drawn to each prompt that is watched."""
ROWS = 16
"""Whose distributions over the whole vocabulary are held at once, of both models."""


@dataclass
class Watch:
    """Draws replies to prompts that are not learned from, and judges them."""

    policy: ChatModel
    reference: ChatModel
    asked: Sequence[Sequence[Turn]]
    max_new_tokens: int
    seed: int
    proxy: Scorer | None = None
    gold: Scorer | None = None

    def look(self, step: int) -> Look:
        """Return how the policy stands; the same replies are drawn from the same policy at every step.

        Raises:
            NonFiniteLossError: the policy or a reward has come to something that is not a number.
        """
        turns = [conversation for conversation in self.asked for _ in range(REPLIES)]
        texts = [render_messages(list(conversation), self.policy.tokenizer) for conversation in turns]
        drawn = self.policy.sample_tokens(texts, max_new_tokens=self.max_new_tokens, seed=self.seed)
        replies = [reply.strip() for reply in self.policy.tokenizer.batch_decode(drawn, skip_special_tokens=True)]
        kl_N = divergence(self.policy, self.reference, texts, drawn)
        if not math.isfinite(kl_N.sum()):
            raise NonFiniteLossError(
                f"The policy's probabilities are not numbers at step {step}.",
                mend="Lower the learning rate, and train into another folder.",
            )
        gold = lower_bound(self.gold, turns, replies, penalty=0.0) if self.gold else None
        verdicts = PhraseJudge().judge(texts, replies)
        return Look(
            step=step,
            kl=float(kl_N.mean()),
            kl_error=_error(kl_N),
            proxy=float(lower_bound(self.proxy, turns, replies, penalty=0.0).mean()) if self.proxy else None,
            deviation=_deviation(self.proxy, turns, replies) if self.proxy else None,
            gold=float(gold.mean()) if gold is not None else None,
            gold_error=_error(gold) if gold is not None else None,
            refused=float(np.mean([verdict is Verdict.REFUSED for verdict in verdicts])),
            silent=float(np.mean([not reply for reply in replies])),
            cut=float(np.mean([reply[-1] not in self.policy.ends_of_text for reply in drawn])),
            tokens=float(np.mean(list(map(len, drawn)))),
        )


def divergence(
    policy: ChatModel, reference: ChatModel, texts: Sequence[str], replies: Sequence[Sequence[int]]
) -> Array:
    """Return how far a policy is from a reference along its own replies, in nats a reply, [N].

    At each of a reply's tokens, which are as they were drawn, the divergence of the whole distributions is taken, and
    these are added up: the same on average as log P(reply) less the reference's, and far less noisy.
    """
    asked = policy.tokenizer(list(texts), add_special_tokens=False).input_ids

    def work(indices: list[int]) -> list[float]:
        batch = policy.batch_of([[*asked[index], *replies[index]] for index in indices])
        longest = max(len(replies[index]) for index in indices)
        ours, theirs = (
            torch.log_softmax(model.last_logits(batch, longest + 1)[:, :-1], dim=-1) for model in (policy, reference)
        )
        kl_BT = (ours.exp() * (ours - theirs.to(ours.device))).sum(-1).double().cpu()
        return [float(kl_BT[row, longest - len(replies[index]) :].sum()) for row, index in enumerate(indices)]

    lengths = [len(before) + len(after) for before, after in zip(asked, replies, strict=True)]
    return np.array(run_batched(lengths, min(policy.batch_size, ROWS), work, what="divergence"))


def _deviation(scorer: Scorer, turns: Sequence[Sequence[Turn]], replies: Sequence[str]) -> float:
    spoken = [index for index, reply in enumerate(replies) if reply]
    if not spoken:
        return 0.0
    found = scored(scorer, [turns[index] for index in spoken], [replies[index] for index in spoken])
    return float(found.deviation.mean())


def _error(values_N: Array) -> float:
    """Return the standard error of the mean; what a prompt's replies have in common counts once."""
    by_prompt = values_N.reshape(-1, REPLIES).mean(axis=1)
    return float(by_prompt.std(ddof=1) / np.sqrt(len(by_prompt))) if len(by_prompt) > 1 else 0.0


@dataclass
class Watching(TrainerCallback):
    """Looks at the policy every so often, ends a run that goes wrong, and keeps the best weights.

    Best is what scores highest by the gold reward; without one, the last look within `max_kl`.
    """

    watch: Watch
    folder: Path
    every: int
    patience: int
    """Looks in a row that may be worse by gold than the best one; 0 for as many as there are."""
    max_kl: float | None
    looks: list[Look] = field(default_factory=list)

    @property
    def best(self) -> Look:
        """The look whose weights are kept; at the beginning no policy is too far from the reference."""
        known = [look for look in self.looks if self.max_kl is None or look.kl <= self.max_kl] or self.looks[:1]
        if any(look.gold is not None for look in known):
            return max(known, key=lambda look: -math.inf if look.gold is None else look.gold)
        return known[-1]

    @property
    def stopped(self) -> str:
        """Why the run is to end; empty where it is not."""
        if not self.looks:
            return ""
        now = self.looks[-1]
        if self.max_kl is not None and now.kl > self.max_kl:
            return f"KL to the reference {now.kl:.2f} exceeds {self.max_kl:g} at step {now.step}"
        worse = [look for look in self.looks if look.step > self.best.step]
        if self.patience and self.best.gold is not None and len(worse) >= self.patience:
            return f"the gold reward has not risen for {self.patience} looks at step {now.step}"
        return ""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take up an interrupted run's looks, or look at the beginning."""
        self.looks = [look for look in self.read() if look.step <= state.global_step]
        if not self.looks:
            self._look(0, kwargs["model"])

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look, and say whether to stop."""
        step = state.global_step
        if step <= state.max_steps and (step % self.every == 0 or step == state.max_steps):
            self._look(step, kwargs["model"])
        control.should_training_stop = control.should_training_stop or bool(self.stopped)

    def kept(self) -> dict[str, Tensor] | None:
        """Return the best look's weights, or None where they are the last step's."""
        from safetensors.torch import load_file

        return None if self.best is self.looks[-1] else load_file(self._weights(self.best))

    def _look(self, step: int, model: Any) -> None:
        was = model.training
        model.eval()
        try:
            self.looks.append(self.watch.look(step))
        finally:
            model.train(was)
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.best is self.looks[-1]:
            self._keep(model)
        write_text(self.folder / "looks.jsonl", "".join(look.model_dump_json() + "\n" for look in self.looks))

    def _keep(self, model: Any) -> None:
        """Write the trained weights down under their step; the best before them stays, in case this run is resumed."""
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        self._forget()
        target = self._weights(self.looks[-1])
        trained = {name: p.detach().contiguous() for name, p in model.named_parameters() if p.requires_grad}
        try:
            save_file(trained, target.with_suffix(".part"))
            target.with_suffix(".part").replace(target)
        except (OSError, SafetensorError) as error:
            raise OutputError(
                f"{target}: cannot be written ({error}).", mend="Free some room and run the same command again."
            ) from error

    def _forget(self) -> None:
        """Remove weights that no resumed run could go back to: all but the last before the oldest checkpoint."""
        oldest = min((int(path.name[11:]) for path in self.folder.glob("checkpoint-*")), default=0)
        steps = sorted(int(path.stem[5:]) for path in self.folder.glob("best-*.safetensors"))
        for step in [step for step in steps if step <= oldest][:-1]:
            (self.folder / f"best-{step}.safetensors").unlink()

    def _weights(self, look: Look) -> Path:
        return self.folder / f"best-{look.step}.safetensors"

    def read(self) -> list[Look]:
        """Return the looks of an interrupted run."""
        path = self.folder / "looks.jsonl"
        if not path.is_file():
            return []
        return [Look.model_validate(json.loads(line)) for line in path.read_text("utf-8").splitlines() if line]
