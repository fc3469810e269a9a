"""Losses of many suffixes, and the gradient of one: each token is read as seldom as can be.

What stands before the suffix is read once a prompt. A candidate is read from its first changed token on, since what
stands before that is the current suffix, and the gradient pass has read it. A step of N candidates thus takes N short
rows, and one row with its backward pass where the current suffix is a new one.

Shapes: B rows, F suffix tokens, T tokens, R target tokens, H hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from safetylayers.attack.gcg.caches import detached, shareable, shared, whole
from safetylayers.attack.gcg.layout import Layout, Tokens
from safetylayers.attack.record import Cost
from safetylayers.errors import ModelError
from safetylayers.models.batching import run_batched

if TYPE_CHECKING:
    from transformers.cache_utils import Cache

    from safetylayers.attack.gcg.term import MapTerm
    from safetylayers.models import ChatModel

PARTS = 4
"""Candidates are read in so many groups, each from the first token on that one of the group has changed."""
SMALL_PART = 16
"""Fewest candidates of a group: with less, a call costs more than the tokens that it saves."""


@dataclass(frozen=True)
class Gradient:
    """What a backward pass says of one suffix."""

    slope_FV: Tensor
    """By how much the loss grows, to first order, with each token at each place; the lowest is the best."""
    loss: float
    reached: bool
    """Whether each token of the target is the likeliest."""


class Reader:
    """Reads one prompt with many suffixes, and counts what that costs."""

    def __init__(self, model: ChatModel, layout: Layout, *, term: MapTerm | None = None, share: bool = True) -> None:
        """Read what stands before the suffix.

        Args:
            model: whose loss it is.
            layout: the prompt.
            term: added to the loss.
            share: let rows share a cache, where it is of a kind that can be shared.
        """
        self.model, self.layout, self.term = model, layout, term
        self._forwards, self._backwards, self._tokens = 0, 0, 0
        self._target_R = torch.tensor(layout.target, device=model.device)
        # The target's last token is predicted and never read.
        self._tail = [*layout.after, *layout.target[:-1]]
        self._batch_size = model.batch_size
        self._prefix = self._read_prefix() if share and layout.before else None
        self._current: tuple[Tensor, Cache] | None = None

    @property
    def shares(self) -> bool:
        """Whether rows share a cache."""
        return self._prefix is not None

    @property
    def cost(self) -> Cost:
        """What was read so far."""
        return Cost(forwards=self._forwards, backwards=self._backwards, tokens=self._tokens)

    def losses(self, suffixes: Sequence[Tokens]) -> list[float]:
        """Return each suffix's loss; infinite where it is no number."""
        ids_BF = torch.tensor(suffixes, device=self.model.device)
        firsts = self._first_changes(ids_BF)
        found = [float("inf")] * len(suffixes)
        order = np.argsort(firsts, kind="stable")
        for part in np.array_split(order, max(1, min(PARTS, len(order) // SMALL_PART))):
            start = int(firsts[part[0]])
            for index, loss in zip(part, self._read(ids_BF[part], start), strict=True):
                found[index] = loss
        return found

    def _first_changes(self, ids_BF: Tensor) -> np.ndarray:
        """Return the place from which on each row has to be read."""
        if self._current is None:
            return np.zeros(len(ids_BF), dtype=np.int64)
        changed = (ids_BF != self._current[0]).to(torch.uint8)
        return changed.argmax(dim=1).cpu().numpy()

    def _read(self, ids_BF: Tensor, start: int) -> list[float]:
        """Return the losses of rows that are as the current suffix before `start`; in batches that fit the memory."""
        begun = [] if self._prefix is not None else self.layout.before
        before_T, tail_T = (torch.tensor(part, device=ids_BF.device, dtype=torch.long) for part in (begun, self._tail))
        fitting: list[int] = []

        def work(indices: list[int]) -> list[float]:
            rows = len(indices)
            parts = (before_T.expand(rows, -1), ids_BF[indices, start:], tail_T.expand(rows, -1))
            with torch.inference_mode():
                losses_B, _ = self._forward(self._cache(rows, start), input_ids=torch.cat(parts, dim=1))
            fitting.append(rows)
            losses: list[float] = losses_B.nan_to_num(nan=float("inf"), posinf=float("inf")).tolist()
            return losses

        width = len(begun) + ids_BF.shape[1] - start + len(self._tail)
        found = run_batched([width] * len(ids_BF), self._batch_size, work, what="candidates")
        self._batch_size = min(self._batch_size, max(fitting)) if len(fitting) > 1 else self._batch_size
        self._count(len(ids_BF), width)
        return found

    def gradient(self, suffix: Tokens) -> Gradient:
        """Read one suffix with its backward pass. Candidates are then read as changes of this one.

        Raises:
            ModelError: the loss is no number.
        """
        before = [] if self._prefix is not None else self.layout.before
        ids_T = torch.tensor([*before, *suffix, *self._tail], device=self.model.device)
        embeddings: nn.Module = self.model.model.get_input_embeddings()
        embedded_TH = embeddings(ids_T).detach()
        suffix_FH = embedded_TH[len(before) : len(before) + len(suffix)].clone().requires_grad_(True)
        parts = (embedded_TH[: len(before)], suffix_FH, embedded_TH[len(before) + len(suffix) :])
        cache = self._cache(1, 0)
        loss_B, logits_BRV = self._forward(cache, inputs_embeds=torch.cat(parts)[None])
        (slope_FH,) = torch.autograd.grad(loss_B.sum(), suffix_FH)
        self._count(1, len(ids_T), backwards=1)
        if not bool(torch.isfinite(slope_FH).all() & torch.isfinite(loss_B).all()):
            raise ModelError(
                f"The loss of {self.model.name} is no number.", mend="Use a wider dtype: --dtype bfloat16 or float32."
            )
        self._follow(suffix, cache)
        weight_VH = embeddings.get_parameter("weight").detach()
        return Gradient(
            slope_FV=(slope_FH.to(weight_VH) @ weight_VH.T).float(),
            loss=float(loss_B.detach()),
            reached=bool((logits_BRV[0].argmax(dim=-1) == self._target_R).all()),
        )

    def follow(self, suffix: Tokens) -> None:
        """Read candidates as changes of this suffix from now on, without a backward pass."""
        cache = self._cache(1, 0)
        if cache is None:
            return
        ids = torch.tensor([[*suffix, *self._tail]], device=self.model.device)
        with torch.no_grad():
            self._forward(cache, input_ids=ids)
        self._count(1, ids.shape[1])
        self._follow(suffix, cache)

    def _follow(self, suffix: Tokens, cache: Cache | None) -> None:
        keeps = cache is not None and whole(cache)
        self._current = (torch.tensor(suffix, device=self.model.device), detached(cache)) if cache and keeps else None

    def _cache(self, rows: int, start: int) -> Cache | None:
        """Return what was read before the suffix and its first `start` tokens."""
        if self._prefix is None:
            return None
        if start and self._current is not None:
            return shared(self._current[1], rows, len(self.layout.before) + start)
        return shared(self._prefix, rows)

    def _read_prefix(self) -> Cache | None:
        from transformers import DynamicCache

        if "past_key_values" not in self.model.forward_options:
            return None
        cache: Cache = DynamicCache(config=self.model.model.config)
        if not shareable(cache):
            return None
        before = torch.tensor([self.layout.before], device=self.model.device)
        with torch.no_grad():  # no inference mode: the backward pass goes through what reads these tensors
            self.model.model(input_ids=before, past_key_values=cache, use_cache=True, **self._keep(1))
        self._count(1, before.shape[1])
        return cache if shareable(cache) else None

    def _keep(self, last: int) -> dict[str, Any]:
        return {"logits_to_keep": last} if "logits_to_keep" in self.model.forward_options else {}

    def _forward(self, cache: Cache | None, **inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return each row's loss [B] and the logits of the target [B, R, V]."""
        (given,) = inputs.values()
        rows, width = given.shape[:2]
        begun = cache.get_seq_length() if cache is not None else 0
        mask_BT = torch.ones(rows, begun + width, dtype=torch.long, device=given.device)
        options: dict[str, Any] = {"attention_mask": mask_BT, **self._keep(len(self.layout.target))}
        if "position_ids" in self.model.forward_options:
            options["position_ids"] = torch.arange(begun, begun + width, device=given.device).expand(rows, -1)
        options |= {"past_key_values": cache, "use_cache": True} if cache is not None else {"use_cache": False}
        with self.model.flowing(self.term.layers if self.term else ()) as hidden:
            logits: Tensor = self.model.model(**inputs, **options).logits
        logits_BRV = logits[:, -len(self.layout.target) :].float()
        chosen_BR = logits_BRV.gather(-1, self._target_R.to(logits.device).expand(rows, -1)[..., None])[..., 0]
        loss_B = (logits_BRV.logsumexp(dim=-1) - chosen_BR).mean(dim=-1)
        if self.term:
            ends = [hidden[layer][:, -len(self.layout.target)] for layer in self.term.layers]
            loss_B = loss_B + self.term.penalty(ends).to(loss_B)
        return loss_B, logits_BRV

    def _count(self, rows: int, width: int, *, backwards: int = 0) -> None:
        self._forwards, self._backwards = self._forwards + rows, self._backwards + backwards
        self._tokens += rows * width
