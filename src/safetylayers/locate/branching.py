"""Many candidate ranges through one model, every layer computed once for all candidates that agree up to it.

Candidates that scale the same lower layers are one row there and part where they begin to differ. The layers are run in
stretches: within one, the candidates' grouping stays the same.
Shapes: C candidates, L layers, G groups, B prompts, T tokens, H hidden size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from safetylayers.locate.decision import Range
from safetylayers.models import Batch

if TYPE_CHECKING:
    from safetylayers.models import ChatModel


@dataclass(frozen=True)
class Stretch:
    """Layers through which the same candidates stay together."""

    first: int
    last: int
    """Inclusive."""
    alphas_GL: Tensor
    """What each group's layers are scaled by."""
    parents_G: Tensor
    """Each group's group in the stretch below."""

    @property
    def is_unscaled(self) -> bool:
        """Whether nothing has been scaled up to here."""
        return bool((self.alphas_GL[:, : self.last + 1] == 1).all())


def branch(candidates: Sequence[Range], alpha: float, layers: int) -> list[Stretch]:
    """Plan a sweep of distinct candidates; after the last stretch, the groups are the candidates in their order."""
    alphas_CL = torch.ones(len(candidates), layers)
    for row, (first, last) in enumerate(candidates):
        alphas_CL[row, first : last + 1] = alpha
    group_of_LC = [torch.unique(alphas_CL[:, : k + 1], dim=0, return_inverse=True)[1] for k in range(layers)]
    ends = [k for k in range(layers) if k == layers - 1 or group_of_LC[k].max() != group_of_LC[k + 1].max()]
    stretches, start, below_C = [], 0, torch.zeros(len(candidates), dtype=torch.long)
    for end in ends:
        group_C = group_of_LC[end]
        members = [int((group_C == group).nonzero()[0]) for group in range(int(group_C.max()) + 1)]
        stretches.append(Stretch(start, end, alphas_CL[members], below_C[members]))
        start, below_C = end + 1, group_C
    # Distinct candidates differ somewhere, so each ends as a group of its own, in torch.unique's order.
    final = stretches[-1]
    stretches[-1] = Stretch(final.first, final.last, final.alphas_GL[below_C], final.parents_G[below_C])
    return stretches


def run_stretch(model: ChatModel, batch: Batch, stretch: Stretch, below: Tensor | None) -> Tensor:
    """Run one stretch that others follow.

    Args:
        model: whose layers they are.
        batch: the prompts.
        stretch: the layers.
        below: what the stretch below returned; none for the first.

    Returns:
        Hidden states after the stretch, group by group: [G * B, T, H].
    """
    with _entered(model, batch, stretch, below) as many, model.stop_after(stretch.last):
        with model.capture([stretch.last]) as found:
            model.next_token_logits(many)
        return found[stretch.last]


def finish(model: ChatModel, batch: Batch, stretch: Stretch, below: Tensor | None, length: int) -> Tensor:
    """Run the last stretch; return the log-probabilities after the last `length` tokens: float64 [C, B, length, V]."""
    with _entered(model, batch, stretch, below) as many:
        logprobs = model.next_logprobs(many, length)
    return logprobs.view(len(stretch.alphas_GL), len(batch), *logprobs.shape[1:])


@contextmanager
def _entered(model: ChatModel, batch: Batch, stretch: Stretch, below: Tensor | None) -> Iterator[Batch]:
    """Within the block, forward passes of the yielded batch start at the stretch, each group scaled in its own way."""
    groups, rows = len(stretch.alphas_GL), len(batch)
    with ExitStack() as stack:
        stack.enter_context(model.scale(stretch.alphas_GL.repeat_interleave(rows, dim=0)))
        if below is not None:
            hidden = below.view(-1, rows, *below.shape[1:])[stretch.parents_G.to(below.device)]
            stack.enter_context(model.resume_from(stretch.first, hidden.flatten(0, 1)))
        yield _repeat(batch, groups)


def _repeat(batch: Batch, times: int) -> Batch:
    return Batch(
        batch.input_ids.repeat(times, 1), batch.attention_mask.repeat(times, 1), batch.position_ids.repeat(times, 1)
    )
