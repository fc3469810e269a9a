"""Parts that let an adversary move hidden states or embeddings, and train refusals under its moves."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from safetylayers.harden.adversary import Place, bounded_place, moved, usual_sizes, worst_case
from safetylayers.harden.laying import Laid, lay
from safetylayers.harden.losses import preferred
from safetylayers.harden.step import Step, resist


@dataclass(frozen=True)
class Latent:
    """Targeted latent adversarial training (arXiv 2407.15549, section 3): moves of the residual stream at layers."""

    name: str = "latent"

    def loss(self, step: Step) -> Tensor:
        """Return the loss under the worst moves that were found."""
        model, settings = step.student, step.run.settings
        rows = step.draw_harmful()
        both = lay([*map(step.refusing, rows), *map(step.complying, rows)], model)
        compliant = both.take(slice(len(rows), None))
        modules = [_module(step, layer) for layer in step.run.layers[self.name]]
        places = [
            bounded_place(module, size, settings.latent_radius, compliant.prompts, model.hidden_size)
            for module, size in zip(modules, usual_sizes(model, modules, compliant), strict=True)
        ]
        moves = worst_case(model, compliant, places, settings.inner_steps, step.generator())
        with moved(places, moves):
            return resist(step, both)


@dataclass(frozen=True)
class Embeddings:
    """Continuous adversarial training on embeddings (arXiv 2405.15589, section 3), with free tokens in some steps.

    Attackers of open weights are not held to a ball around the request's own tokens: they add tokens whose embeddings
    they set freely (2402.09063). So in a share of the steps some stand behind the request.
    """

    name: str = "embeddings"

    def loss(self, step: Step) -> Tensor:
        """Return CAT's or CAPO's loss under the worst moves that were found."""
        model, settings = step.student, step.run.settings
        rows = step.draw_harmful()
        count = settings.soft_tokens if step.rng.random() < settings.soft_share else 0
        extra = [[step.rng.randrange(len(model.tokenizer)) for _ in range(count)] for _ in rows]
        refusing = [step.refusing(row, free) for row, free in zip(rows, extra, strict=True)]
        both = lay([*refusing, *(step.complying(row, free) for row, free in zip(rows, extra, strict=True))], model)
        compliant = both.take(slice(len(rows), None))
        free_BP = torch.zeros_like(compliant.prompts)
        for index, row in enumerate(rows):
            end = both.prompt_width - len(row.after)
            free_BP[index, end - count : end] = True
        place = self._place(step, compliant, free_BP)
        moves = worst_case(model, compliant, [place], settings.inner_steps, step.generator())
        with moved([place], moves):
            return resist(step, both) if settings.embedding_loss == "cat" else _preference(step, both)

    @staticmethod
    def _place(step: Step, compliant: Laid, free_BP: Tensor) -> Place:
        model, settings = step.student, step.run.settings
        module = _module(step, -1)
        (size,) = usual_sizes(model, [module], compliant)
        place = bounded_place(module, size, settings.embedding_radius, compliant.prompts, model.hidden_size)
        free_BP1 = free_BP[..., None]
        deviation = size / model.hidden_size**0.5
        return Place(
            module,
            place.radius_BP1.masked_fill(free_BP1, float("inf")),
            place.reach_BP1.masked_fill(free_BP1, settings.soft_reach * deviation),
        )


def _module(step: Step, layer: int) -> torch.nn.Module:
    """Return a layer, or the embeddings for -1."""
    embeddings: torch.nn.Module = step.student.model.get_input_embeddings()
    return embeddings if layer < 0 else step.student.layers[layer]


def _preference(step: Step, both: Laid) -> Tensor:
    """Return CAPO's loss; the original model reads the request as it was moved, as the model in training does."""
    half = len(both.batch) // 2

    def likelihood(logprobs_BR: Tensor) -> Tensor:
        """Mean over each reply's tokens, so that long replies weigh no more than short ones."""
        learnt = both.learnt_BR
        return torch.where(learnt, logprobs_BR, 0.0).sum(dim=1) / learnt.sum(dim=1).clamp(min=1)

    with step.run.models.original() as original:
        before_B = likelihood(both.logprobs(original))
    ratio_B = likelihood(both.logprobs(step.student)) - before_B
    return preferred(ratio_B[:half] - ratio_B[half:], step.run.settings.capo_tau)
