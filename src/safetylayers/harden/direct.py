"""Parts without an inner optimisation: late refusals, rerouted representations, an ablated direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from safetylayers.harden.laying import Laid, lay
from safetylayers.harden.losses import toward
from safetylayers.harden.step import Step, resist
from safetylayers.models.ablation import ablated

if TYPE_CHECKING:
    from safetylayers.models import ChatModel


@dataclass(frozen=True)
class DeepAlignment:
    """Refusals after none to many tokens of a compliant reply (arXiv 2406.05946, section 3)."""

    name: str = "deep-alignment"

    def loss(self, step: Step) -> Tensor:
        """Return the loss of refusing late. There is no loss away from compliance, as in the paper."""
        laid = lay([step.refusing(row) for row in step.draw_harmful()], step.student)
        return step.run.settings.toward * toward(laid.logprobs(step.student), laid.learnt_BR)


@dataclass(frozen=True)
class CircuitBreaker:
    """Representation rerouting (arXiv 2406.04313, section 3, algorithm 1).

    On harmful requests with compliant replies, representations at some layers are turned until they are orthogonal to
    the original's; on utility rows and refusals, those of all layers are held where they were. The first weight falls
    and the second rises as training goes on.
    """

    name: str = "circuit-breaker"

    def loss(self, step: Step) -> Tensor:
        """Return both losses, weighted by the schedule."""
        rows = step.draw_harmful()
        held = [(row.asked, list[int](), row.reply) for row in step.draw_retain()]
        held += [(row.asked, [], row.refusal) for row in rows[: len(rows) // 4]]
        rerouted = lay([step.complying(row) for row in rows], step.student)
        kept = lay(held, step.student)
        layers, everywhere = step.run.layers[self.name], range(step.student.n_layers)
        weight = step.run.settings.reroute * (1 - step.done / 2)
        weight_kept = step.run.settings.reroute * step.done / 2 * step.run.settings.retain_weight
        turned = _Difference.of(step, rerouted, layers).cosine()
        return weight * turned + weight_kept * _Difference.of(step, kept, everywhere).distance()


@dataclass(frozen=True)
class _Difference:
    """The same rows' hidden states at some layers, now and in the original: lists of [tokens, H]."""

    now: list[Tensor]
    before: list[Tensor]

    @classmethod
    def of(cls, step: Step, laid: Laid, layers: range | tuple[int, ...]) -> _Difference:
        with step.run.models.original() as original, original.flowing(layers) as found:
            original.logits(laid.batch, last=1)
            before = [_real(found[layer], laid) for layer in layers]
        with step.student.flowing(layers) as found:
            step.student.logits(laid.batch, last=1)
        return cls([_real(found[layer], laid) for layer in layers], before)

    def cosine(self) -> Tensor:
        """Return the mean of cosines that are above 0."""
        pairs = zip(self.now, self.before, strict=True)
        return torch.stack([functional.cosine_similarity(n, b, dim=-1).relu().mean() for n, b in pairs]).mean()

    def distance(self) -> Tensor:
        """Return the mean distance, as a share of the original's norm, so that all layers and models weigh alike."""
        pairs = zip(self.now, self.before, strict=True)
        return torch.stack([((n - b).norm(dim=-1) / b.norm(dim=-1)).mean() for n, b in pairs]).mean()


def _real(hidden_BTH: Tensor, laid: Laid) -> Tensor:
    return hidden_BTH[laid.batch.attention_mask.bool().to(hidden_BTH.device)].float()


@dataclass(frozen=True)
class RefusalFeature:
    """Refusal feature adversarial training (arXiv 2409.20089, section 4).

    The refusal direction is the difference of the means of the step's harmful and harmless prompts (2406.11717, section
    2.3), taken anew at every step. An ablating attacker looks for the best layer and token of the template's ending, so
    both are drawn.
    """

    name: str = "refusal-feature"

    def loss(self, step: Step) -> Tensor:
        """Return the loss of refusing while the direction is ablated."""
        model, rows = step.student, step.draw_harmful()
        layer = step.rng.randrange(model.n_layers)
        back = step.rng.randrange(max(1, len(rows[0].after)))
        harmful = _mean_state(model, [row.asked for row in rows], layer, back)
        harmless = _mean_state(model, [row.asked for row in step.draw_retain()], layer, back)
        basis_KH = functional.normalize(harmful - harmless, dim=-1)[None]
        both = lay([*map(step.refusing, rows), *map(step.complying, rows)], model)
        with ablated(model, basis_KH):
            return resist(step, both)


def _mean_state(model: ChatModel, prompts: list[list[int]], layer: int, back: int) -> Tensor:
    """Return the prompts' mean hidden state at a layer, `back` tokens before their ends: [H]."""
    with torch.no_grad(), model.stop_after(layer), model.capture([layer]) as found:
        model.logits(model.batch_of(prompts), last=1)
    return found[layer][:, -1 - back].float().mean(dim=0)
