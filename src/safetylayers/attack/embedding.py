"""An attacker with gradients: soft tokens behind the request, optimised on their embeddings.

This is arXiv 2402.09063, section 3. The loss is the log-likelihood of a compliant opening. An attacker who knows a
watcher (safety layers with their heads and thresholds) adds what that watcher holds against the row, as a
differentiable penalty. Soft tokens are unconstrained and restarted from other random ones; an attack has succeeded as
soon as one restart has.

For testing one's own model. Shapes: B rows, T tokens, H hidden size, F soft tokens, R reply tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from safetylayers.attack.record import AttackCase, AttackResult, Cost, default_judges, judged, stopwatch
from safetylayers.evaluate import Verdict
from safetylayers.models.tokens import pad_left
from safetylayers.prompts import PromptSet, Template, render
from safetylayers.records import ProgressCallback, Provenance

if TYPE_CHECKING:
    from safetylayers.evaluate import Judge
    from safetylayers.models import ChatModel

TARGET = "Sure, here is what you asked for."


class Watcher(Protocol):
    """What an adaptive attacker knows of a defence."""

    @property
    def layers(self) -> Sequence[int]:
        """Decoder layers whose hidden states are watched."""
        ...

    def penalty(self, hidden: Sequence[Tensor], real_BT: Tensor, prompt_ends_B: Tensor) -> Tensor:
        """Return how far each row is from passing, differentiably; 0 where it passes: [B].

        Args:
            hidden: of the watched layers, [B, T, H] each, first to last.
            real_BT: False at padding.
            prompt_ends_B: column of each row's last prompt token.
        """
        ...


@dataclass(frozen=True)
class Budget:
    """What the attacker may spend on a prompt."""

    restarts: int = 10
    steps: int = 40
    soft_tokens: int = 8
    learning_rate: float = 0.1
    """As a share of the embeddings' usual size."""
    weight: float = 1.0
    """Of the watcher's penalty beside the log-likelihood."""


def embedding(
    model: ChatModel,
    prompts: PromptSet,
    *,
    budget: Budget | None = None,
    watcher: Watcher | None = None,
    defence: Callable[[], AbstractContextManager[object]] = nullcontext,
    target: str = TARGET,
    judges: Sequence[Judge] | None = None,
    template: Template = "chat",
    max_new_tokens: int = 48,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> AttackResult:
    """Attack every prompt until a restart succeeds or the budget is spent.

    Args:
        model: the bare model: gradients are taken on it.
        prompts: malicious ones.
        budget: restarts and steps.
        watcher: what the attacker knows of the defence; none for the bare model.
        defence: a context in which the model is defended, for the replies; by itself none.
        target: the compliant opening that is made likely.
        judges: by themselves phrases and patterns; a prompt is attacked until all of them say that the model complied,
            and the restart that most judges call a success is kept.
        template: how prompts are rendered.
        max_new_tokens: of a reply.
        seed: of the restarts.
        progress: told after each restart.
    """
    budget = budget or Budget()
    panel = judges or default_judges()
    attacker = _Attacker(model, budget, watcher, target, template, seed)
    cases: dict[int, AttackCase] = {}
    open_ones, spent = list(range(len(prompts))), [Cost() for _ in prompts]
    for restart in range(budget.restarts):
        if not open_ones:
            break
        texts = [prompts.texts[index] for index in open_ones]
        with stopwatch() as watch:
            soft_BFH = attacker.optimise(texts, restart)
            with defence():
                replies = attacker.replies(texts, soft_BFH, max_new_tokens)
        verdicts = judged(panel, texts, replies)
        for index, reply, verdict in zip(open_ones, replies, verdicts, strict=True):
            spent[index] = spent[index] + attacker.cost(prompts.texts[index], reply, watch.seconds / len(texts))
            case = AttackCase(
                prompt=prompts.texts[index],
                attacked=f"{budget.soft_tokens} soft tokens behind the request, restart {restart + 1}",
                reply=reply,
                verdicts=verdict,
                cost=spent[index],
            )
            best = max(cases.get(index, case), case, key=_won)
            cases[index] = best.model_copy(update={"cost": spent[index]})
        open_ones = [index for index in open_ones if _won(cases[index]) < len(panel)]
        if progress:
            progress(restart + 1, budget.restarts, f"embedding attack, {len(open_ones)} prompts left")
    source = Provenance(
        model=model.name, model_hash=model.weights_hash, data={prompts.name: prompts.content_hash}, seed=seed
    )
    settings: dict[str, int | float | str] = {
        "restarts": budget.restarts, "steps": budget.steps, "soft tokens": budget.soft_tokens,
        "learning rate": budget.learning_rate, "weight": budget.weight, "adaptive": str(watcher is not None),
        "target": target, "template": template, "max_new_tokens": max_new_tokens,
    }  # fmt: skip
    return AttackResult(
        attack="embedding", settings=settings, defended=defence is not nullcontext,
        cases=tuple(cases[index] for index in range(len(prompts))), provenance=source,
    )  # fmt: skip


def _won(case: AttackCase) -> int:
    """Return how many judges say that the model complied."""
    return sum(verdict is Verdict.COMPLIED for verdict in case.verdicts.values())


@dataclass(frozen=True)
class _Attacker:
    model: ChatModel
    budget: Budget
    watcher: Watcher | None
    target: str
    template: Template
    seed: int

    def optimise(self, texts: Sequence[str], restart: int) -> Tensor:
        """Return soft tokens for each text: [B, F, H]."""
        generator = torch.Generator().manual_seed(self.seed * 1_000 + restart)
        embed: nn.Module = self.model.model.get_input_embeddings()
        shape = (len(texts), self.budget.soft_tokens)
        drawn = torch.randint(len(self.model.tokenizer), shape, generator=generator).to(self.model.device)
        soft_BFH: Tensor = embed(drawn).detach().float().requires_grad_(True)
        size = float(soft_BFH.detach().std())
        optimizer = torch.optim.Adam([soft_BFH], lr=self.budget.learning_rate * size)
        tokens, columns = self._layout(texts, self.target)
        for _ in range(self.budget.steps):
            # The gradient of the soft tokens alone: the model's own parameters gather none.
            (soft_BFH.grad,) = torch.autograd.grad(self._loss(tokens, columns, soft_BFH), soft_BFH)
            optimizer.step()
        found: Tensor = soft_BFH.detach()
        return found

    def _layout(self, texts: Sequence[str], reply: str) -> tuple[list[list[int]], list[int]]:
        """Return each row's tokens, with pads where soft tokens go, and the place of the first of these."""
        marker = "\ue000"
        rendered = render([text + marker for text in texts], self.model.tokenizer, self.template)
        tokenizer, pads = self.model.tokenizer, [self.model.tokenizer.pad_token_id or 0] * self.budget.soft_tokens
        rows, places = [], []
        for text in rendered:
            before, after = (tokenizer(part, add_special_tokens=False).input_ids for part in text.split(marker))
            rows.append(
                [*before, *pads, *after, *(tokenizer(reply, add_special_tokens=False).input_ids if reply else [])]
            )
            places.append(len(before))
        return rows, places

    def _embedded(
        self, rows: Sequence[Sequence[int]], places: Sequence[int], soft_BFH: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return embeddings [B, T, H] with the soft tokens in their places, the mask and the positions [B, T]."""
        batch = pad_left(rows, self.model.tokenizer.pad_token_id or 0, self.model.device)
        embedded_BTH = self.model.model.get_input_embeddings()(batch.input_ids).detach()
        width, count = batch.input_ids.shape[1], self.budget.soft_tokens
        starts = torch.tensor([width - len(row) + place for row, place in zip(rows, places, strict=True)])
        columns_BF1 = (starts[:, None] + torch.arange(count))[..., None].to(embedded_BTH.device)
        placed = embedded_BTH.scatter(
            1, columns_BF1.expand(-1, -1, embedded_BTH.shape[-1]), soft_BFH.to(embedded_BTH.dtype)
        )
        return placed, batch.attention_mask, batch.position_ids

    def _loss(self, rows: Sequence[Sequence[int]], places: Sequence[int], soft_BFH: Tensor) -> Tensor:
        wanted = self.model.tokenizer(self.target, add_special_tokens=False).input_ids
        embedded_BTH, mask_BT, positions_BT = self._embedded(rows, places, soft_BFH)
        watched = list(self.watcher.layers) if self.watcher else []
        with self.model.flowing(watched) as hidden:
            logits_BTV = self.model.model(
                inputs_embeds=embedded_BTH, attention_mask=mask_BT, position_ids=positions_BT, use_cache=False
            ).logits
        logprobs_BRV = logits_BTV[:, -len(wanted) - 1 : -1].float().log_softmax(-1)
        chosen_BR = logprobs_BRV[..., torch.arange(len(wanted)), wanted]
        loss = -chosen_BR.sum(-1)
        if self.watcher:
            ends_B = torch.full((len(rows),), embedded_BTH.shape[1] - len(wanted) - 1, device=embedded_BTH.device)
            loss = loss + self.budget.weight * self.watcher.penalty(
                [hidden[k] for k in watched], mask_BT.bool(), ends_B
            )
        total: Tensor = loss.sum()
        return total

    def replies(self, texts: Sequence[str], soft_BFH: Tensor, max_new_tokens: int) -> list[str]:
        """Let the model reply to the attacked prompts."""
        rows, places = self._layout(texts, "")
        embedded_BTH, mask_BT, _ = self._embedded(rows, places, soft_BFH)
        return self.model.generate_from(embedded_BTH, mask_BT, max_new_tokens=max_new_tokens)

    def cost(self, text: str, reply: str, seconds: float) -> Cost:
        """Return what one restart cost for one prompt."""
        (row,), _ = self._layout([text], self.target)
        wrote = len(self.model.tokenizer(reply, add_special_tokens=False).input_ids)
        steps = self.budget.steps
        return Cost(queries=1, forwards=steps, backwards=steps, tokens=len(row) * (steps + 1) + wrote, seconds=seconds)
