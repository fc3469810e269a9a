"""What is explained: one number of a prompt that says how strongly the model refuses it.

Either the refusal log-odds, from the model's own distribution over how its reply opens, or the projection of hidden
states on a direction. Shapes: N variants of a prompt, R rows, T tokens, H hidden size, V vocabulary, K layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from safetylayers.errors import UsageError
from safetylayers.evaluate.log_odds import log_odds
from safetylayers.models.batching import run_batched
from safetylayers.models.tokens import Batch
from safetylayers.records import ProgressCallback

if TYPE_CHECKING:
    from safetylayers.models import ChatModel

Tokens = tuple[int, ...]


class Target(Protocol):
    """A number that can be explained."""

    @property
    def name(self) -> str:
        """How results call it."""
        ...

    @property
    def endings(self) -> Sequence[Tokens]:
        """What follows the prompt, in each of the rows that have to be read for one value."""
        ...

    def values(self, model: ChatModel, batch: Batch, embedded: Tensor | None = None) -> Tensor:
        """Return the value of each variant: float64 [N], with gradients where there are any.

        Args:
            model: that reads.
            batch: N x R rows, variant by variant: a prompt's tokens and one of the endings.
            embedded: embeddings [N x R, T, H] in place of the batch's tokens.
        """
        ...


@dataclass(frozen=True)
class RefusalOdds:
    """log P(refusal) - log P(no refusal), by how replies open: `evaluate.log_odds`, with gradients."""

    openings: tuple[Tokens, ...]
    """Token sequences by which refusals begin; none begins with another."""
    endings: tuple[Tokens, ...] = field(init=False)
    name: str = field(default="refusal log-odds", init=False)

    def __post_init__(self) -> None:
        if not self.openings or not all(self.openings):
            raise UsageError("There is no refusal to explain: no opening is given.", mend="Give how refusals begin.")
        if any(a != b and b[: len(a)] == a for a in self.openings for b in self.openings):
            raise UsageError("An opening begins another one.", mend="Leave the longer one out.")
        prefixes = {opening[:-1] for opening in self.openings}
        # A row that reads a longer ending has read the shorter one on its way.
        needed = {p for p in prefixes if not any(p != q and q[: len(p)] == p for q in prefixes)}
        object.__setattr__(self, "endings", tuple(sorted(needed)))

    @classmethod
    def of(cls, model: ChatModel, openings: Sequence[str]) -> RefusalOdds:
        """Return the target of openings as text. Raises UsageError."""
        cut = (tuple(model.tokenizer(text, add_special_tokens=False).input_ids) for text in openings)
        return cls(tuple(dict.fromkeys(cut)))

    @property
    def first_tokens(self) -> tuple[int, ...]:
        """By which openings begin."""
        return tuple(sorted({opening[0] for opening in self.openings}))

    def values(self, model: ChatModel, batch: Batch, embedded: Tensor | None = None) -> Tensor:
        """Return the refusal log-odds of each variant: float64 [N]."""
        longest = max(map(len, self.openings))
        logits_RTV = model.logits(batch, last=longest, embedded=embedded)
        logprobs_RTV = logits_RTV.double().log_softmax(-1)
        logprobs = logprobs_RTV.view(-1, len(self.endings), *logprobs_RTV.shape[1:])  # [N, R of each, longest, V]
        found = []
        for opening in self.openings:
            row = next(n for n, ending in enumerate(self.endings) if ending[: len(opening) - 1] == opening[:-1])
            # The first token is chosen after the prompt's last one, which the ending has moved to the left.
            start = longest - 1 - len(self.endings[row])
            steps = torch.arange(start, start + len(opening), device=logprobs.device)
            found.append(logprobs[:, row, steps, list(opening)].sum(-1))
        return log_odds(torch.logsumexp(torch.stack(found, -1), -1))


@dataclass(frozen=True)
class Projection:
    """Mean projection of hidden states on unit directions, a layer each, at one position."""

    directions: Mapping[int, Tensor]
    """Layer -> direction [H]."""
    position: int = -1
    """From the prompt's end."""
    name: str = "projection on the refusal direction"
    endings: tuple[Tokens, ...] = field(default=((),), init=False)

    def values(self, model: ChatModel, batch: Batch, embedded: Tensor | None = None) -> Tensor:
        """Return the projection of each variant: float64 [N]."""
        layers = sorted(self.directions)
        with model.flowing(layers) as found, model.stop_after(layers[-1]):
            model.logits(batch, last=1, embedded=embedded)
        parts = [found[layer][:, self.position].double() @ self.directions[layer].to(found[layer]).double()
                 for layer in layers]  # fmt: skip
        return torch.stack(parts).mean(0)


def values_of(
    target: Target,
    model: ChatModel,
    prompts: Sequence[Sequence[int]],
    *,
    progress: ProgressCallback | None = None,
) -> Tensor:
    """Return the target's value for each token sequence, of whatever lengths: float64 on the CPU, [N]."""

    def work(indices: list[int]) -> list[Tensor]:
        with torch.inference_mode():
            batch = model.batch_of([[*prompts[n], *ending] for n in indices for ending in target.endings])
            return list(target.values(model, batch).cpu())

    found = run_batched(
        [len(prompt) for prompt in prompts], model.batch_size, work, what="variants read", progress=progress
    )
    return torch.stack(found)


def embed(model: ChatModel, tokens: Sequence[int]) -> Tensor:
    """Return the embeddings of tokens as the first layer gets them: [T, H], without gradients."""
    embeddings = model.model.get_input_embeddings()
    with torch.no_grad():
        found: Tensor = embeddings(torch.tensor(tokens, dtype=torch.long, device=model.device))
    return found


def values_of_embedded(target: Target, model: ChatModel, embedded_NTH: Tensor) -> Tensor:
    """Return the target's value for each variant of a prompt's embeddings, with gradients: float64 [N]."""
    N, T, H = embedded_NTH.shape
    width = max(map(len, target.endings))
    rows, parts = [], []
    for ending in target.endings:
        tail_EH = embed(model, ending) if ending else embedded_NTH.new_zeros(0, H)
        pad_PH = embedded_NTH.new_zeros(width - len(ending), H)
        parts.append(torch.cat([pad_PH.expand(N, -1, -1), embedded_NTH, tail_EH.to(embedded_NTH).expand(N, -1, -1)], 1))
        rows.append([0] * T + list(ending))
    batch = model.batch_of(rows * N)
    return target.values(model, batch, torch.stack(parts, 1).flatten(0, 1))
