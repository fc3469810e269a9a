"""Ways of taking refusal out of a residual stream, as candidates that an attacker chooses from.

remove   nothing along one direction is left, in every layer and at every token (arXiv 2406.11717, section 2.4)
shift    along each layer's own direction every state is what normal prompts' states are on average (arXiv 2411.09003)
cap      along each layer's own direction no state is beyond what most normal prompts' states are: those of normal
         prompts mostly stay as they were, so their replies do as well

A direction is the difference in means between malicious and normal prompts, or, of several, the strongest of the
differences by singular value decomposition.

Shapes: B rows, T tokens, N prompts, L layers, P positions, H hidden size, K directions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor

from safetylayers.errors import UsageError
from safetylayers.locate.directions import instruction_end
from safetylayers.models.ablation import ablated, orthonormal
from safetylayers.models.interventions import Change, changed_output
from safetylayers.prompts import builtin, render

if TYPE_CHECKING:
    from safetylayers.models import ChatModel
    from safetylayers.targets import ModelTarget

How = Literal["remove", "shift", "cap"]
HOW: tuple[str, ...] = get_args(How)
SHARES = (0.7, 0.8, 0.9, 0.95, 0.97, 0.99)
"""Of normal prompts' states, so many are below the cap."""


@dataclass(frozen=True)
class Removal:
    """One way of taking refusal out."""

    how: How
    basis_LKH: Tensor
    """Orthonormal directions of each layer."""
    level_LK: Tensor
    """What is left along each, or at most left where it is capped."""
    told: str
    """Where the directions come from, in words."""

    @contextmanager
    def on(self, model: ChatModel) -> Iterator[None]:
        """Within the block, the model computes without refusal."""
        if self.how == "remove":
            with ablated(model, self.basis_LKH[0]):
                yield
            return
        with ExitStack() as stack:
            for layer, basis_KH, level_K in zip(model.layers, self.basis_LKH, self.level_LK, strict=True):
                stack.enter_context(changed_output(layer, _levelled(basis_KH, level_K, capped=self.how == "cap")))
            yield


def _levelled(basis_KH: Tensor, level_K: Tensor, *, capped: bool) -> Change:
    """Return a change that brings states to a level along directions, or only those that are above it."""

    def change(hidden_BTH: Tensor) -> Tensor:
        basis, level = basis_KH.to(hidden_BTH.device), level_K.to(hidden_BTH.device)
        plain = hidden_BTH.float()
        above_BTK = plain @ basis.T - level
        excess_BTK = above_BTK.clamp(min=0) if capped else above_BTK
        return (plain - excess_BTK @ basis).to(hidden_BTH.dtype)

    return change


@dataclass(frozen=True)
class States:
    """Hidden states of prompts from which directions are learnt."""

    malicious_NPLH: Tensor
    normal_NPLH: Tensor
    positions: tuple[int, ...]
    """From the prompt's end: the instruction's last token, and the template's ending."""

    @classmethod
    def read(cls, target: ModelTarget, count: int) -> States:
        """Read built-in prompts of the split `train`, `count` of each kind."""
        model, positions = target.model, tuple(range(instruction_end(target.model, target.template), 0))
        found = [
            model.hidden_states(
                render(builtin(kind, "train").take(count).texts, model.tokenizer, target.template), positions=positions
            ).transpose(1, 2)
            for kind in ("malicious", "normal")
        ]
        return cls(found[0], found[1], positions)

    def directions(self, place: int, layer: int, count: int) -> Tensor:
        """Return an orthonormal basis of the directions at one position and layer: [K, H].

        The first points to malicious prompts.

        Raises:
            UsageError: there are fewer prompts, or fewer coordinates, than directions, or prompts do not differ.
        """
        return strongest(self.malicious_NPLH[:, place, layer], self.normal_NPLH[:, place, layer], count)


def strongest(malicious_NH: Tensor, normal_NH: Tensor, count: int) -> Tensor:
    """Return the difference in means, or the strongest directions of all differences from normal's mean: [K, H].

    Each points to where malicious prompts are on average.

    Raises:
        UsageError: there are fewer prompts, or fewer coordinates, than directions, or prompts do not differ.
    """
    if not 1 <= count <= min(malicious_NH.shape):
        raise UsageError(f"{count} directions of {len(malicious_NH)} prompts.", mend="Ask for fewer, at least 1.")
    apart_NH = malicious_NH - normal_NH.mean(dim=0)
    if count == 1:
        return _signed(orthonormal(apart_NH.mean(dim=0)[None]), apart_NH)
    return _signed(torch.linalg.svd(apart_NH, full_matrices=False).Vh[:count], apart_NH)


def _signed(basis_KH: Tensor, apart_NH: Tensor) -> Tensor:
    """Turn directions that point away from malicious prompts; which sign one has is an accident of its making."""
    along_K = basis_KH @ apart_NH.mean(dim=0)
    return torch.where(along_K[:, None] < 0, -basis_KH, basis_KH)


def candidates(states: States, hows: Sequence[str], count: int) -> Iterator[Removal]:
    """Yield every way of removing `count` directions that the states allow. Raises UsageError."""
    layers = states.normal_NPLH.shape[2]
    for place, position in enumerate(states.positions):
        bases = [states.directions(place, layer, count) for layer in range(layers)]
        own_LKH = torch.stack(bases)
        along_NLK = torch.einsum("nlh,lkh->nlk", states.normal_NPLH[:, place], own_LKH)
        if "remove" in hows:
            for layer, basis_KH in enumerate(bases):
                same_LKH = basis_KH.expand(layers, -1, -1)
                told = f"remove, layer {layer}, position {position}"
                yield Removal("remove", same_LKH, torch.zeros(layers, count), told)
        if "shift" in hows:
            yield Removal("shift", own_LKH, along_NLK.mean(dim=0), f"shift, position {position}")
        if "cap" in hows:
            for share in SHARES:
                told = f"cap at {share:g} of normal prompts, position {position}"
                yield Removal("cap", own_LKH, along_NLK.quantile(share, dim=0), told)
