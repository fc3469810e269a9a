"""An attacker inside the model: bounded moves of the residual stream at chosen layers, by projected gradient.

This is the attack that latent adversarial training defends against (arXiv 2407.15549, section 3.1), run for more steps
and from several starts. At every token of the prompt, and at every chosen layer, the hidden state may move by a share
of its own norm (L2); the moves make a compliant opening likely, and stay in place while the model replies.

For testing one's own model. Shapes: B rows, T tokens, P prompt columns, R target tokens, H hidden size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from safetylayers.attack.attempts import Tried, best_of
from safetylayers.attack.base import Ground, Numbered
from safetylayers.attack.embedding import TARGET
from safetylayers.attack.record import AttackCase, Cost, Setting
from safetylayers.errors import ModelError, UsageError
from safetylayers.models.interventions import changed_output
from safetylayers.prompts import render
from safetylayers.targets import ModelTarget, Reply

OVERSHOOT = 2.5
"""The steps together are so many times the radius long, so that the bound can be reached from within."""


@dataclass(frozen=True)
class Residual:
    """Attacks every prompt until all judges say that the model complied, or the restarts are spent."""

    epsilon: float = 0.3
    """Longest move, as a share of the state's own norm."""
    restarts: int = 4
    steps: int = 30
    layers: tuple[int, ...] = ()
    """Whose outputs are moved: the map's; by itself all but the last, whose output nothing reads but the reply."""
    target: str = TARGET
    """The compliant opening that is made likely."""
    name: str = "residual"

    def __post_init__(self) -> None:
        """Raise UsageError where a number makes no sense."""
        if self.epsilon < 0 or min(self.restarts, self.steps) < 1:
            raise UsageError("The residual attack needs restarts, steps and an epsilon above zero.")

    def settings(self) -> dict[str, Setting]:
        """Return the bound, the budget, and where it acts."""
        return {
            "epsilon": self.epsilon, "restarts": self.restarts, "steps": self.steps,
            "layers": ", ".join(map(str, self.layers)) or "all but the last", "target": self.target,
        }  # fmt: skip

    def cases(self, ground: Ground, prompts: Numbered) -> Iterator[tuple[int, AttackCase]]:
        """Yield each prompt's best restart. Raises UsageError where the weights or the layers are not here."""
        target = ground.weights(self.name)
        layers = self.layers or tuple(range(max(1, target.model.n_layers - 1)))
        if not all(0 <= layer < target.model.n_layers for layer in layers):
            raise UsageError(f"{target.name} has no layers {layers}.", mend="Use the map of this very model.")
        attacker = _Attacker(self, target, layers, ground.seed)

        def attempt(restart: int, numbers: Sequence[int], _best: Mapping[int, AttackCase]) -> list[Tried]:
            return attacker.attack(numbers, [prompts[index] for index in numbers], restart)

        yield from best_of(ground, prompts, attempt, tries=self.restarts, what="residual attack")


@dataclass(frozen=True)
class _Attacker:
    plan: Residual
    target: ModelTarget
    layers: tuple[int, ...]
    seed: int

    def attack(self, numbers: Sequence[int], texts: Sequence[str], restart: int) -> list[Tried]:
        """Make one restart of each prompt."""
        model = self.target.model
        rendered = render(texts, model.tokenizer, self.target.template)
        asked = model.tokenizer(rendered, add_special_tokens=False).input_ids
        moves = self.optimise(numbers, asked, restart)
        batch = model.batch_of(asked)
        embeddings: nn.Module = model.model.get_input_embeddings()
        with torch.no_grad(), self.moved(moves):
            replies = model.generate_from(
                embeddings(batch.input_ids), batch.attention_mask, max_new_tokens=self.target.max_new_tokens
            )
        told = f"[hidden states moved by {self.plan.epsilon:g} of their norm, restart {restart + 1}]"
        return [
            Tried(f"{text} {told}", Reply(reply), self.cost(len(ids), reply))
            for text, ids, reply in zip(texts, asked, replies, strict=True)
        ]

    def optimise(self, numbers: Sequence[int], asked: Sequence[list[int]], restart: int) -> list[Tensor]:
        """Return a move for each layer, [B, P, H], within its bound. Raises ModelError where the loss is no number."""
        model, width = self.target.model, max(map(len, asked))
        wanted: list[int] = model.tokenizer(self.plan.target, add_special_tokens=False).input_ids
        batch = model.batch_of([[*ids, *wanted] for ids in asked])
        wanted_R = torch.tensor(wanted, device=model.device)
        with torch.no_grad(), model.capture(self.layers) as found:
            model.logits(batch, last=1)
        real_BP1 = batch.attention_mask[:, :width, None]
        radii = [self.plan.epsilon * norms_of(found[k][:, :width]) * real_BP1.to(found[k].device) for k in self.layers]
        moves = [self._start(numbers, radius, restart) for radius in radii]
        for _ in range(self.plan.steps):
            moves = [move.requires_grad_(True) for move in moves]
            with self.moved(moves):
                logits_BRV = model.logits(batch, last=len(wanted) + 1)[:, :-1].float()
            targets_BR = wanted_R.to(logits_BRV.device).expand(len(asked), -1)
            loss = nn.functional.cross_entropy(logits_BRV.transpose(1, 2), targets_BR, reduction="sum")
            if not bool(torch.isfinite(loss)):
                raise ModelError(f"The loss of {model.name} is no number.", mend="Use a wider dtype, such as float32.")
            gradients = torch.autograd.grad(loss, moves)
            moves = [
                bounded(move.detach() - (OVERSHOOT / self.plan.steps) * radius * unit(gradient), radius)
                for move, gradient, radius in zip(moves, gradients, radii, strict=True)
            ]
        return moves

    def _start(self, numbers: Sequence[int], radius_BP1: Tensor, restart: int) -> Tensor:
        """Return random moves within the bound. A row's are drawn for its own number, from its prompt's end on."""
        hidden, width = self.target.model.hidden_size, radius_BP1.shape[1]
        drawn = []
        for number in numbers:
            digest = hashlib.sha256(f"{self.seed} {number} {restart}".encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
            drawn.append(torch.stack([torch.randn(hidden, generator=generator) for _ in range(width)]).flip(0))
        return unit(torch.stack(drawn).to(radius_BP1.device)) * radius_BP1 / 2

    @contextmanager
    def moved(self, moves: Sequence[Tensor]) -> Iterator[None]:
        """Within the block, passes that read the prompts are moved; those that read a reply's next token are not."""
        with ExitStack() as stack:
            for layer, move in zip(self.layers, moves, strict=True):
                stack.enter_context(changed_output(self.target.model.layers[layer], _Added(move)))
            yield

    def cost(self, prompt_tokens: int, reply: str) -> Cost:
        """Return what one restart took for one prompt."""
        tokenizer, steps = self.target.model.tokenizer, self.plan.steps
        wrote, wanted = (len(tokenizer(text, add_special_tokens=False).input_ids) for text in (reply, self.plan.target))
        tokens = (prompt_tokens + wanted) * (steps + 1) + prompt_tokens + wrote
        return Cost(queries=1, forwards=steps + 1, backwards=steps, tokens=tokens)


@dataclass(frozen=True)
class _Added:
    move_BPH: Tensor

    def __call__(self, hidden_BTH: Tensor) -> Tensor:
        later = hidden_BTH.shape[1] - self.move_BPH.shape[1]
        if later < 0:
            return hidden_BTH
        return hidden_BTH + nn.functional.pad(self.move_BPH, (0, 0, 0, later)).to(hidden_BTH)


def norms_of(hidden: Tensor) -> Tensor:
    """Return the length of each state, float32 [..., 1]."""
    norms: Tensor = hidden.float().norm(dim=-1, keepdim=True)
    return norms


def unit(moves: Tensor) -> Tensor:
    """Return moves [..., H] of length one; those of length zero stay."""
    return moves.float() / norms_of(moves).clamp(min=1e-30)


def bounded(moves: Tensor, radius: Tensor) -> Tensor:
    """Return moves [..., H], those that are too long shortened to their radius [..., 1]."""
    return moves * (radius / norms_of(moves).clamp(min=1e-30)).clamp(max=1)
