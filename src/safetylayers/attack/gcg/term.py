"""What the safety map tells an attacker: where the model sees a request as harmful, and which way is out.

The map holds a probe a layer (log-odds that a prompt is malicious, from the hidden state at its last token) and a
refusal direction. The term is added to the loss, and falls as the hidden states of the safety layers leave the side on
which malicious prompts are.

Shapes: B rows, L the map's safety layers, H hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor

from safetylayers.errors import UsageError

if TYPE_CHECKING:
    from safetylayers.locate import SafetyMap

Aim = Literal["probe", "direction"]


@dataclass(frozen=True)
class MapTerm:
    """A penalty on hidden states at the prompt's last token."""

    layers: tuple[int, ...]
    normals_LH: Tensor
    """Of the probes' boundaries, or the refusal directions."""
    bias_L: Tensor
    weight: float
    aim: Aim

    @classmethod
    def of(cls, found: SafetyMap, weight: float, aim: Aim) -> MapTerm:
        """Take what the map says of its safety layers.

        Raises:
            NoSafetyLayersError: the map found none.
            UsageError: there is no such aim.
        """
        if aim not in get_args(Aim):
            raise UsageError(f"There is no aim {aim!r}.", mend=f"Use one of: {', '.join(get_args(Aim))}.")
        first, last = found.range
        normals = found.tensors["probe_weights" if aim == "probe" else "refusal_directions"]
        part = slice(first, last + 1)
        return cls(tuple(range(first, last + 1)), normals[part], found.tensors["probe_bias"][part], weight, aim)

    def penalty(self, hidden: Sequence[Tensor]) -> Tensor:
        """Return the weighted penalty of each row, [B].

        With the probes it is -log P(normal), with the directions 1 + the cosine similarity; the mean of all layers.

        Args:
            hidden: of `layers`, [B, H] each.
        """
        hidden_LBH = torch.stack([layer.to(hidden[0].device).float() for layer in hidden])
        along_LB = torch.einsum("lbh,lh->lb", hidden_LBH, self.normals_LH.to(hidden_LBH))
        if self.aim == "probe":
            each_LB = torch.nn.functional.softplus(along_LB + self.bias_L.to(hidden_LBH)[:, None])
        else:
            each_LB = 1 + along_LB / hidden_LBH.norm(dim=-1).clamp(min=1e-12)
        return self.weight * each_LB.mean(dim=0)
