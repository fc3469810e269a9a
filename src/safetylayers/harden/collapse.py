"""The check after training: if refusal has collapsed into one direction, one ablation undoes the hardening.

Targeted latent adversarial training is known to do that. Both measures are those of `attack.collapse`: the strongest
direction's share of what sets malicious prompts apart, and compliance once one direction is taken out, in the best of
all ways that `attack.ablate` knows: removing it was not the way that undid latent training on the practice model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from safetylayers.attack.ablate import Ablate
from safetylayers.attack.collapse import Collapse, measure_collapse
from safetylayers.prompts import PromptSet
from safetylayers.records import ProgressCallback, Rate, Record
from safetylayers.targets import ModelTarget

if TYPE_CHECKING:
    from safetylayers.models import ChatModel

JUDGE = "patterns"


class CollapseCheck(Record):
    """How one-dimensional refusal is, before and after."""

    before: tuple[float, ...]
    """Layer by layer, the strongest direction's share, from 0 to 1."""
    after: tuple[float, ...]
    ablated_before: Rate
    """Malicious prompts complied with once one direction is taken out."""
    ablated_after: Rate

    @property
    def verdict(self) -> str:
        """One sentence."""
        was, now = (sum(shares) / len(shares) for shares in (self.before, self.after))
        return (
            f"The strongest direction holds {100 * now:.0f} % of what sets malicious prompts apart (before: "
            f"{100 * was:.0f} %, means over layers), and without one direction the model complies with "
            f"{self.ablated_after} (before: {self.ablated_before})."
        )


def check_collapse(
    before: ChatModel,
    after: ChatModel,
    prompts: PromptSet,
    *,
    attack: Ablate | None = None,
    progress: ProgressCallback | None = None,
) -> CollapseCheck:
    """Compare two models on the same malicious prompts; directions are learnt and chosen on the built-in splits.

    Args:
        before: the model as it was.
        after: the hardened one.
        prompts: malicious ones.
        attack: how a direction is taken out; by itself in the best way.
        progress: told of what is under way.
    """
    how = attack or Ablate()
    was, now = (
        measure_collapse(ModelTarget(model), prompts, most=1, attack=how, progress=progress)
        for model in (before, after)
    )
    return CollapseCheck(
        before=was.first_shares, after=now.first_shares, ablated_before=_ablated(was), ablated_after=_ablated(now)
    )


def _ablated(found: Collapse) -> Rate:
    return found.removed[0].success_rate(JUDGE)
