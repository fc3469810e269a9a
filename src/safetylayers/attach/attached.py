"""Safety layers at work: hooks on a model's decoder layers.

Every forward pass of the model, wherever it comes from (generate, sampling, beam search, a trainer), is read by the
heads at the attached layers, judged by the gate at the last of them, and corrected there. While the gate is closed,
the hook returns nothing, so that the model's tensors are the very ones that it made.

Shapes: B rows, T tokens, H hidden size, S attached layers, V vocabulary.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache

from safetylayers.attach.control import Control, Order
from safetylayers.attach.gate import Flags, Inputs, State, Steps, advance
from safetylayers.attach.memory import GateMemory, memory_of
from safetylayers.attach.trace import TraceCallback, traces
from safetylayers.errors import UsageError
from safetylayers.models.interventions import hidden_of, with_hidden

if TYPE_CHECKING:
    from safetylayers.attach.layers import Modules, SafetyLayers
    from safetylayers.models import ChatModel


@dataclass
class _Pass:
    """One forward pass, from the backbone's first layer to the vocabulary."""

    tokens: list[list[int]] | None
    mask: Tensor | None
    cache: Any
    hidden: list[Tensor] = field(default_factory=list)
    """Of the attached layers so far: [B, T, H] each."""
    past: int = 0
    """Tokens in the cache before this pass."""
    before: State | None = None
    inputs: Inputs | None = None
    after: State | None = None
    steps: Steps | None = None
    orders: int = 0


class Attached:
    """A model with its safety layers on. `detach`, or leaving the `with` block, takes them off without a trace."""

    def __init__(
        self,
        model: ChatModel,
        layers: SafetyLayers,
        *,
        control: Control | None = None,
        trace: TraceCallback | None = None,
    ) -> None:
        """Put the layers on; `attach` does so after checking whose they are.

        Raises:
            UsageError: the model has safety layers on already.
        """
        if any(_is_ours(hook) for layer in model.layers for hook in layer._forward_hooks.values()):
            raise UsageError(f"{model.name} has safety layers on already.", mend="Detach them first.")
        self.model, self.layers = model, layers
        self.rules = layers.rules(model)
        self.control = control or Control()
        self.trace = trace
        self._local = threading.local()
        *earlier, last = [model.layers[layer] for layer in layers.record.layers]
        backbone: nn.Module = model.model.get_decoder()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        vocabulary: nn.Module = model.model.get_output_embeddings()  # type: ignore[no-untyped-call]
        self._handles: list[Any] = [
            backbone.register_forward_pre_hook(self._begin, with_kwargs=True),
            *[layer.register_forward_hook(self._keep) for layer in earlier],
            last.register_forward_hook(self._judge),
            backbone.register_forward_hook(self._end),
            vocabulary.register_forward_hook(self._stop),
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.detach()

    def detach(self) -> None:
        """Take the layers off; the model is what it was."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    @contextmanager
    def rows(self, names: Sequence[Hashable]) -> Iterator[None]:
        """Within the block, rows of this thread's batches have names, for the trace and for orders.

        Raises:
            UsageError: two rows share a name.
        """
        if len(set(names)) != len(names):
            raise UsageError("Two rows share a name.", mend="Give each row its own.")
        self._local.names = list(names)
        try:
            yield
        finally:
            self._local.names = None

    def _begin(self, module: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        given = options if not args else {**dict(zip(_parameters(module), args, strict=False)), **options}
        tokens = given.get("input_ids")
        self._local.now = _Pass(
            tokens=None if tokens is None else tokens.tolist(),
            mask=_padding_mask(given.get("attention_mask")),
            cache=given.get("past_key_values"),
        )
        now: _Pass = self._local.now
        now.past = now.cache.get_seq_length() if now.cache is not None else 0
        memory = memory_of(now.cache)
        if (memory.get_seq_length() if memory else 0) != now.past:
            raise UsageError(
                "The cache holds tokens that these safety layers have not read.",
                mend="Begin with a new cache, or put the layers on before the first token.",
            )

    def _keep(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        now: _Pass = self._local.now
        if now.steps is None:  # otherwise checkpointing computes the layer once more, for its gradients
            now.hidden.append(hidden_of(output))

    def _judge(self, _module: nn.Module, _inputs: Any, output: Any) -> Any:
        """Decide, and correct where the gate is open."""
        now: _Pass = self._local.now
        hidden_BTH = hidden_of(output)
        modules = self.layers.modules_on(hidden_BTH.device)
        if now.steps is None:
            now.steps = self._decide(now, hidden_BTH, modules)
        if not now.steps.any_open:
            return None
        strength_BT1 = torch.from_numpy(now.steps.strengths()).to(hidden_BTH.device, torch.float32)[..., None]
        changed_BTH = hidden_BTH + (strength_BT1 * modules.correction(hidden_BTH)).to(hidden_BTH.dtype)
        return with_hidden(output, torch.where(strength_BT1 > 0, changed_BTH, hidden_BTH))

    def _decide(self, now: _Pass, hidden_BTH: Tensor, modules: Modules) -> Steps:
        """Let the gate read this pass's tokens, going on from what it remembers."""
        inputs = self._inputs(now, hidden_BTH, modules)
        memory = memory_of(now.cache)
        known = memory.state if memory else None
        if known and len(known.rows) != len(hidden_BTH):
            raise UsageError(
                f"The cache was filled by {len(known.rows)} rows and is used for {len(hidden_BTH)}.",
                mend="Repeat its rows by cache.batch_repeat_interleave, which takes the gate's memory along.",
            )
        now.before = known or State.new(self._names(len(hidden_BTH)), len(self.rules.joined))
        now.inputs = inputs._replace(orders=self._orders(now))
        now.after, steps = advance(now.before, now.inputs, self.rules)
        return steps

    def _inputs(self, now: _Pass, hidden_BTH: Tensor, modules: Modules) -> Inputs:
        """Let the heads read the attached layers' hidden states."""
        rows, tokens, _ = hidden_BTH.shape
        hidden = [_plain(layer) for layer in (*now.hidden, hidden_BTH)]
        now.hidden.clear()
        if rows * tokens == 1 and hidden_BTH.device.type == "cpu":
            # For more tokens NumPy would start threads of its own, which get in the way of the model's.
            read = modules.host_heads.read([layer.numpy() for layer in hidden])
        else:
            reads = [modules.heads.read(place, layer.to(hidden_BTH.device)) for place, layer in enumerate(hidden)]
            read = torch.cat(reads, dim=-1).cpu().double().numpy()
        read_BTSC = read.reshape(rows, tokens, len(hidden), -1)
        channels, real = self.rules.channels, _real(now, tokens)
        queries = read_BTSC[..., channels:] if modules.heads.pools else None
        return Inputs(read_BTSC[..., :channels], queries, now.tokens, real, None)

    def _names(self, rows: int) -> Sequence[Hashable]:
        """Return the rows' names; beams of one row share its name."""
        names: list[Hashable] = getattr(self._local, "names", None) or list(range(rows))
        if rows % len(names):
            raise UsageError(f"{len(names)} names for {rows} rows.", mend="Name every row of the batch.")
        return [name for name in names for _ in range(rows // len(names))]

    def _orders(self, now: _Pass) -> list[Order] | None:
        orders = self.control.orders
        now.orders = orders.number
        return [orders.for_row(row.name) for row in now.before.rows] if orders.any and now.before else None

    def _end(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        """Keep the state in the cache, and tell the trace."""
        now: _Pass = self._local.now
        cache = now.cache if now.cache is not None else _cache_of(output)
        if cache is not None and now.before and now.inputs and now.after:
            memory = memory_of(cache)
            if memory is None:
                memory = GateMemory(self.rules)
                cache.layers.append(memory)
            memory.remember(now.before, now.inputs, now.after)
        if self.trace and now.before and now.inputs and now.steps:
            self.trace(traces(now.before, now.inputs, now.steps, self.rules, now.orders))

    def _stop(self, _module: nn.Module, _inputs: Any, logits_BTV: Tensor) -> Tensor | None:
        """Make the end of the text the only next token of rows that are stopped."""
        now: _Pass = self._local.now
        stopped = self._stopped(now)
        if stopped is None:
            return None
        rows = torch.from_numpy(stopped[:, -logits_BTV.shape[1] :]).to(logits_BTV.device)[..., None]
        end = torch.full_like(logits_BTV[:1, :1], torch.finfo(logits_BTV.dtype).min)
        end[..., self.rules.ends_of_text[0]] = 0
        return torch.where(rows, end, logits_BTV)

    def _stopped(self, now: _Pass) -> Flags | None:
        """Return which tokens end their text [B, T], by the gate or by an order that came even now; None for none."""
        if now.steps is None or now.before is None:
            return None
        orders = self.control.orders
        if not (now.steps.any_stopped or orders.any):
            return None
        stops = now.steps.stops()
        stops[:, -1] |= [orders.for_row(row.name).stop for row in now.before.rows]
        return stops if stops.any() else None


def _is_ours(hook: object) -> bool:
    return isinstance(getattr(hook, "__self__", None), Attached)


def _plain(hidden_BTH: Tensor) -> Tensor:
    """Return hidden states as heads read them, [B * T, H]; every needless call costs time here."""
    hidden_NH = hidden_BTH.flatten(0, 1)
    if hidden_NH.requires_grad:
        hidden_NH = hidden_NH.detach()
    return hidden_NH if hidden_NH.dtype is torch.float32 else hidden_NH.float()


def _parameters(module: nn.Module) -> Mapping[str, Any]:
    import inspect

    return inspect.signature(module.forward).parameters


def _cache_of(output: Any) -> Any:
    """Return the cache among a backbone's outputs, whether these have names or not."""
    if isinstance(output, tuple):
        return next((part for part in output if isinstance(part, Cache)), None)
    return getattr(output, "past_key_values", None)


def _padding_mask(mask: Any) -> Tensor | None:
    """Return which tokens are no padding, [B, tokens so far or more]; None where all are.

    A mask of pairs of tokens says so in its last row, which attends to everything that is no padding; of several such
    masks, that of full attention is the one that hides nothing else.

    Raises:
        UsageError: the mask is of no known form.
    """
    if mask is None:
        return None
    if isinstance(mask, Mapping):
        return _padding_mask(mask["full_attention"])
    if isinstance(mask, Tensor) and mask.dim() == 2:
        return mask.bool()
    if isinstance(mask, Tensor) and mask.dim() == 4:
        last_BT = mask[:, 0, -1]
        return last_BT if last_BT.dtype is torch.bool else last_BT == 0
    raise UsageError(
        f"Safety layers cannot read padding from a mask like {type(mask).__name__}.",
        mend="Give a mask of tokens, [rows, tokens].",
    )


def _real(now: _Pass, tokens: int) -> Flags | None:
    if now.mask is None or tokens == 1:  # a single new token is never padding
        return None
    real = now.mask[:, now.past : now.past + tokens].cpu().numpy()
    return None if real.all() else np.asarray(real)
