"""Has refusal collapsed into one direction? Then taking out that one undoes a defence, whatever else it withstands.

Adversarial training may leave refusal in few directions. Two measures: how much of what sets malicious prompts apart
from normal ones lies along its strongest common directions, layer by layer, and how often the model complies once 1,
2, ... of them are removed (arXiv 2406.11717, section 2.4). For testing one's own model.

Shapes: N prompts, L layers, H hidden size, K directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from safetylayers.attack.ablate import Ablate
from safetylayers.attack.record import AttackResult
from safetylayers.attack.removal import States
from safetylayers.attack.running import run_attack
from safetylayers.prompts import PromptSet
from safetylayers.records import ProgressCallback, Record

if TYPE_CHECKING:
    from safetylayers.evaluate import Judge
    from safetylayers.targets import ModelTarget


class Collapse(Record):
    """How few directions hold a model's refusal."""

    shares: tuple[tuple[float, ...], ...]
    """Layer by layer, each strongest direction's share, from 0 to 1, at the prompt's last token."""
    removed: tuple[AttackResult, ...]
    """What the model does without its 1, 2, ... strongest directions, each time at the best layer and position."""

    @property
    def first_shares(self) -> tuple[float, ...]:
        """Layer by layer, the share of the strongest direction."""
        return tuple(shares[0] for shares in self.shares)

    def success(self, judge: str) -> tuple[str, ...]:
        """Return the rates of compliance with their intervals, without 1, 2, ... directions."""
        return tuple(str(result.success_rate(judge)) for result in self.removed)


def measure_collapse(
    target: ModelTarget,
    prompts: PromptSet,
    *,
    most: int = 4,
    attack: Ablate | None = None,
    judges: Sequence[Judge] | None = None,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> Collapse:
    """Measure one model.

    Args:
        target: whose weights are here.
        prompts: malicious ones; directions are learnt and chosen on other ones, the built-in splits.
        most: directions to remove at most.
        attack: how they are removed; by itself as in arXiv 2406.11717.
        judges: by themselves phrases and patterns.
        seed: as for `run_attack`.
        progress: told of what is under way.

    Raises:
        UsageError: there are no prompts, or not as many directions.
    """
    plan = attack or Ablate(how="remove")
    states = States.read(target, plan.learnt_from)
    shares_LK = direction_shares(states.malicious_NPLH[:, -1], states.normal_NPLH[:, -1], most)
    removed = []
    for count in range(1, most + 1):
        each = replace(plan, directions=count)
        title = f"ablate:directions={count}"
        removed.append(run_attack(each, target, prompts, judges=judges, seed=seed, title=title, progress=progress))
    return Collapse(shares=tuple(map(tuple, shares_LK.tolist())), removed=tuple(removed))


def direction_shares(malicious_NLH: Tensor, normal_NLH: Tensor, count: int = 1) -> Tensor:
    """Return the share of squared length that each of the strongest directions of the differences holds: [L, count]."""
    apart_LNH = (malicious_NLH - normal_NLH.mean(dim=0)).transpose(0, 1)
    squares_LK = torch.linalg.svdvals(apart_LNH) ** 2
    shares_LK: Tensor = squares_LK[:, :count] / squares_LK.sum(dim=1, keepdim=True)
    return shares_LK
