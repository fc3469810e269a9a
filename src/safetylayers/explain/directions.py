"""Harm and refusal through the layers: two directions, read at two positions (arXiv 2507.11878).

Harm is read at the instruction's last token, refusal at the prompt's last one. A projection means something only beside
others: it is told on a scale on which normal prompts lie at 0 and malicious ones at 1, layer by layer.
Shapes: P prompts, L layers, H hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from safetylayers.locate.directions import difference_of_means, instruction_end
from safetylayers.prompts import Template, builtin, render
from safetylayers.records import ProgressCallback

if TYPE_CHECKING:
    from safetylayers.locate import SafetyMap
    from safetylayers.models import ChatModel

REFERENCES = 64
"""Built-in calibration prompts of each kind that the scale is made of."""


@dataclass(frozen=True)
class Scale:
    """One direction a layer, and where normal and malicious prompts lie along it."""

    directions_LH: Tensor
    normal_L: Tensor
    malicious_L: Tensor

    @classmethod
    def of(cls, directions_LH: Tensor | None, normal_PLH: Tensor, malicious_PLH: Tensor) -> Scale:
        """Return the scale of the directions, by themselves the difference of the two kinds' means."""
        if directions_LH is None:
            directions_LH = difference_of_means(malicious_PLH, normal_PLH)
        directions = directions_LH.float()
        means = [torch.einsum("lh,lh->l", states.mean(0), directions) for states in (normal_PLH, malicious_PLH)]
        return cls(directions, *means)

    def __call__(self, hidden_PLH: Tensor, layers: Sequence[int] | None = None) -> Tensor:
        """Return where prompts lie at each layer, 0 among normal ones, 1 among malicious ones: [P, L].

        Args:
            hidden_PLH: hidden states of some layers.
            layers: which ones, by itself all.
        """
        kept = list(range(len(self.normal_L)) if layers is None else layers)
        along_PL = torch.einsum("plh,lh->pl", hidden_PLH.float(), self.directions_LH[kept])
        between_L = self.malicious_L[kept] - self.normal_L[kept]
        # Where the two kinds do not differ (a layer that reads nothing yet), there is no scale: halfway.
        apart_L = between_L.abs() > 1e-6
        return torch.where(apart_L, (along_PL - self.normal_L[kept]) / torch.where(apart_L, between_L, 1.0), 0.5)


@dataclass(frozen=True)
class Scales:
    """The scales of harm and of refusal, and the position of the first, from the prompt's end."""

    harm: Scale
    refusal: Scale
    harm_position: int

    @classmethod
    def read(
        cls,
        model: ChatModel,
        template: Template,
        found: SafetyMap | None = None,
        *,
        references: int = REFERENCES,
        progress: ProgressCallback | None = None,
    ) -> Scales:
        """Read the built-in calibration prompts; directions are the map's where there is one."""
        position = instruction_end(model, template)
        kinds = []
        for name in ("normal", "malicious"):
            asked = [prompt.text for prompt in builtin(name, "calibration")][:references]
            texts = render(asked, model.tokenizer, template)
            kinds.append(model.hidden_states(texts, positions=(position, -1), progress=progress))
        normal, malicious = kinds
        of_map = found.tensors if found else {}
        return cls(
            Scale.of(of_map.get("harm_directions"), normal[:, :, 0], malicious[:, :, 0]),
            Scale.of(of_map.get("refusal_directions"), normal[:, :, 1], malicious[:, :, 1]),
            position,
        )
