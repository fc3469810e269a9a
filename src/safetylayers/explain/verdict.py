"""The verdict: does the model refuse, how surely, and at which layer that is settled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from safetylayers.explain.directions import Scales
from safetylayers.explain.lens import Lens, lens
from safetylayers.explain.target import RefusalOdds, values_of
from safetylayers.explain.tokens import Reading
from safetylayers.records import Record

if TYPE_CHECKING:
    from safetylayers.locate import SafetyMap
    from safetylayers.models import ChatModel


class Verdict(Record):
    """What the model does with a prompt, and where inside that can be read."""

    refusal_log_odds: float
    """log P(the reply opens with a refusal) - log P(it does not)."""
    lens: Lens
    """What each layer would say next."""
    harm: tuple[float, ...]
    """At each layer, at the instruction's last token: 0 as normal prompts, 1 as malicious ones."""
    refusal: tuple[float, ...]
    """The same along the refusal direction, at the prompt's last token."""
    probes: tuple[float, ...] = ()
    """The map's probes at the prompt's last token, log-odds; with a map."""
    thresholds: tuple[float, ...] = ()
    """Of the probes: what 1 % of normal prompts exceed."""

    @property
    def refused(self) -> bool:
        """Whether the reply more likely than not opens with a refusal."""
        return self.refusal_log_odds > 0

    @property
    def harm_settled(self) -> int | None:
        """First layer from which on the prompt is on its final side along the harm direction."""
        return settled(self.harm)

    @property
    def refusal_settled(self) -> int | None:
        """First layer from which on it is on its final side along the refusal direction."""
        return settled(self.refusal)


def settled(shares: Sequence[float]) -> int | None:
    """Return the first layer from which on the shares stay on the last one's side of halfway; None if that is halfway.

    It says where a decision can be read and not what caused it.
    """
    if not shares or shares[-1] == 0.5:
        return None
    final = shares[-1] > 0.5
    others = [layer for layer, share in enumerate(shares) if (share > 0.5) != final]
    return others[-1] + 1 if others else 0


def judge(
    model: ChatModel, reading: Reading, target: RefusalOdds, scales: Scales, found: SafetyMap | None = None
) -> Verdict:
    """Return the verdict on one prompt: one pass for hidden states, one for the opening, one of norm and head."""
    states_LPH = read_states(model, reading.token_ids, (scales.harm_position, -1))
    harm_LH, last_LH = states_LPH[:, 0], states_LPH[:, 1]
    layers = range(model.n_layers)
    return Verdict(
        refusal_log_odds=float(values_of(target, model, [reading.token_ids])[0]),
        lens=lens(model, last_LH, target.first_tokens),
        harm=tuple(scales.harm(harm_LH[None])[0].tolist()),
        refusal=tuple(scales.refusal(last_LH[None])[0].tolist()),
        probes=tuple(probe_scores(found, last_LH[None], layers)[0].tolist()) if found else (),
        thresholds=tuple(score.threshold for score in found.record.probes) if found else (),
    )


def probe_scores(found: SafetyMap, hidden_PLH: Tensor, layers: Sequence[int]) -> Tensor:
    """Return the map's probes' scores of some layers' hidden states, log-odds: [P, L]."""
    weights_LH, bias_L = found.tensors["probe_weights"][list(layers)], found.tensors["probe_bias"][list(layers)]
    return torch.einsum("plh,lh->pl", hidden_PLH.float(), weights_LH.float()) + bias_L


def read_states(model: ChatModel, tokens: Sequence[int], positions: Sequence[int]) -> Tensor:
    """Return every layer's output at some positions of one token sequence: float32 on the CPU, [L, positions, H]."""
    with torch.inference_mode(), model.capture(range(model.n_layers)) as states:
        model.logits(model.batch_of([tokens]), last=1)
    return torch.stack([states[layer][0, list(positions)].float().cpu() for layer in range(model.n_layers)])
