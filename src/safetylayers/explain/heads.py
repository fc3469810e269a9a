"""Attention heads ranked by what they do to the target: each is taken out in turn, and the target is read again.

A head writes to the residual stream through its slice of what the attention's output projection reads. Zero in that
slice takes the head out (Michel et al. 2019, arXiv 1905.10650, section 2.3; for safety, Zhou et al. 2024, arXiv
2410.13708); its mean over other prompts takes out what it does for this one. Only this is called a cause: what a head
attends to, as `attention.py` records it, is none.

Shapes: B rows, T tokens, H heads, D head size; tensors of all heads side by side are [..., H x D].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from safetylayers.errors import UnknownArchitectureError, UsageError
from safetylayers.explain.target import Target
from safetylayers.explain.tokens import Reading
from safetylayers.models.batching import run_batched
from safetylayers.models.structure import linear_modules, projections, text_config
from safetylayers.records import ProgressCallback, Record

if TYPE_CHECKING:
    from safetylayers.models import Batch, ChatModel

Head = tuple[int, int]
"""Layer and head."""


class HeadEffect(Record):
    """What a head causes in the target."""

    layer: int
    head: int
    effect: float
    """The target's value without the head, less its value with it. Below zero, the head raises the target."""


def rank_heads(
    model: ChatModel,
    target: Target,
    reading: Reading,
    *,
    layers: Sequence[int] | None = None,
    reference: Sequence[Reading] | None = None,
    progress: ProgressCallback | None = None,
) -> tuple[HeadEffect, ...]:
    """Take each head out at all positions, the target's endings included; rank heads by how far its value moves.

    Args:
        model: that reads.
        target: the number that is explained.
        reading: the prompt.
        layers: whose heads; by themselves all layers.
        reference: prompts over whose tokens each head's mean is put in its place; by itself zero is.
        progress: told after each batch.

    Returns:
        A head each, the largest effect first, whatever its sign.

    Raises:
        UsageError: there is no such layer, or a reference without prompts.
        UnknownArchitectureError: a layer's output projection cannot be found.
    """
    found = output_projections(model, layers)
    means = None if reference is None else mean_inputs(model, found, reference)
    heads: list[Head] = [(layer, head) for layer in found for head in range(head_count(model))]

    def work(indices: list[int]) -> list[float]:
        # The whole model is read in the same pass, so that a pass's own rounding cannot pass for an effect.
        variants: list[list[Head]] = [[], *([heads[index]] for index in indices)]
        rows = [heads_of_row for heads_of_row in variants for _ in target.endings]
        batch = model.batch_of([[*reading.token_ids, *ending] for _ in variants for ending in target.endings])
        with torch.inference_mode(), without_heads(model, found, rows, means):
            values = target.values(model, batch)
        return (values[1:] - values[0]).tolist()

    lengths = [len(reading.token_ids)] * len(heads)
    effects = run_batched(lengths, model.batch_size, work, what="heads taken out", progress=progress)
    ranked = (HeadEffect(layer=layer, head=head, effect=effect)
              for (layer, head), effect in zip(heads, effects, strict=True))  # fmt: skip
    return tuple(sorted(ranked, key=lambda head: -abs(head.effect)))


@contextmanager
def without_heads(
    model: ChatModel,
    projections_of: Mapping[int, nn.Linear],
    rows: Sequence[Sequence[Head]],
    means: Mapping[int, Tensor] | None = None,
) -> Iterator[None]:
    """Within the block, some heads are taken out of each row of the batch.

    Args:
        model: whose heads.
        projections_of: layer -> output projection, as `output_projections` finds them.
        rows: the heads taken out of each row.
        means: layer -> what is put in their place, [H x D]; by itself zero.
    """
    H = head_count(model)
    with ExitStack() as stack:
        for layer, projection in projections_of.items():
            gone_BH = torch.tensor([[(layer, head) in row for head in range(H)] for row in rows])
            if bool(gone_BH.any()):
                put = torch.zeros(projection.in_features) if means is None else means[layer]
                stack.callback(projection.register_forward_pre_hook(_replaced(gone_BH, put)).remove)
        yield


def _replaced(gone_BH: Tensor, put: Tensor) -> Callable[..., Any]:
    """Return a hook that replaces some heads' slices of what a projection reads."""

    def hook(_module: nn.Module, inputs: tuple[Any, ...]) -> Any:
        read = inputs[0]
        gone = gone_BH.to(read.device).repeat_interleave(read.shape[-1] // gone_BH.shape[1], dim=1)
        return torch.where(gone[:, None], put.to(read), read)

    return hook


def mean_inputs(model: ChatModel, found: Mapping[int, nn.Linear], reference: Sequence[Reading]) -> dict[int, Tensor]:
    """Return the mean of what each projection reads, over all tokens of some prompts: layer -> float32 [H x D].

    Raises:
        UsageError: there are no prompts.
    """
    if not reference:
        raise UsageError("There is no reference prompt to take means over.", mend="Give some, or none at all.")

    def work(indices: list[int]) -> list[Tensor]:
        batch = model.batch_of([reference[index].token_ids for index in indices])
        with _summed(found, batch) as sums:
            model.next_token_logits(batch)
        return list(torch.cat([sums[layer] for layer in found], dim=1))

    lengths = [len(reading.token_ids) for reading in reference]
    sums = run_batched(lengths, model.batch_size, work, what="reference prompts")
    means = (torch.stack(sums).sum(0) / sum(lengths)).float()
    widths = [projection.in_features for projection in found.values()]
    return dict(zip(found, torch.split(means, widths), strict=True))


@contextmanager
def _summed(found: Mapping[int, nn.Linear], batch: Batch) -> Iterator[dict[int, Tensor]]:
    """Within the block, a forward leaves the sums of what projections read over each row's own tokens.

    Yields:
        layer -> float64 [B, H x D] on the CPU.
    """
    sums: dict[int, Tensor] = {}

    def keep(layer: int) -> Callable[..., None]:
        def hook(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
            real_BT1 = batch.attention_mask[..., None].to(inputs[0].device, torch.bool)
            sums[layer] = torch.where(real_BT1, inputs[0], 0).cpu().double().sum(1)

        return hook

    with ExitStack() as stack:
        for layer, projection in found.items():
            stack.callback(projection.register_forward_pre_hook(keep(layer)).remove)
        yield sums


def head_count(model: ChatModel) -> int:
    """Return how many query heads a layer has."""
    return int(text_config(model.model).num_attention_heads)


def output_projections(model: ChatModel, layers: Sequence[int] | None = None) -> dict[int, nn.Linear]:
    """Return the projection through which each layer's attention writes, found by structure.

    Attention is the part of a layer that runs first, and the projection the linear module that it calls last: it has
    to read all heads and to write the hidden size. With adapters on it, it is not found: merge them first.

    Args:
        model: whose projections.
        layers: by themselves all that have heads; linear attention, in between, has others.

    Raises:
        UsageError: there is no such layer.
        UnknownArchitectureError: a layer has no such projection.
    """
    chosen = [layer for layer in range(model.n_layers) if _has_heads(model, layer)] if layers is None else list(layers)
    if not chosen or not 0 <= min(chosen) <= max(chosen) < model.n_layers:
        raise UsageError(f"There are no layers {chosen}.", mend=f"{model.name} has layers 0 to {model.n_layers - 1}.")
    found = {}
    for layer, called in _called(model, sorted(set(chosen))).items():
        attention = [linear for part, linear in called if part == called[0][0]]
        if not attention or not _has_heads(model, layer) or not _writes_heads(model, attention[-1]):
            raise UnknownArchitectureError(
                f"{model.architecture}: how layer {layer}'s heads write is not known.",
                mend="Merge adapters into the model, or choose other layers.",
            )
        found[layer] = attention[-1]
    return found


def _called(model: ChatModel, layers: Sequence[int]) -> dict[int, list[tuple[int, nn.Linear]]]:
    """Return each layer's linear modules in the order of their calls, with the number of the part that holds them."""
    called: dict[int, list[tuple[int, nn.Linear]]] = {layer: [] for layer in layers}

    def note(layer: int, part: int) -> Callable[..., None]:
        def hook(module: nn.Linear, _inputs: Any, _output: Any) -> None:
            called[layer].append((part, module))

        return hook

    with ExitStack() as stack:
        for layer in layers:
            parts = [part for part in model.layers[layer].children() if projections(part)]
            for number, part in enumerate(parts):
                for _, linear in linear_modules(part):
                    stack.callback(linear.register_forward_hook(note(layer, number)).remove)
        model.next_token_logits(model.batch_of([[0]]))
    return called


def _has_heads(model: ChatModel, layer: int) -> bool:
    """Whether a layer has the heads that the configuration counts, as far as it tells its layers' kinds."""
    kinds = getattr(text_config(model.model), "layer_types", None)
    return not kinds or (kinds[layer].endswith("attention") and "linear" not in kinds[layer])


def _writes_heads(model: ChatModel, linear: nn.Linear) -> bool:
    """Whether a linear module reads all heads side by side and writes the hidden size."""
    config, heads = text_config(model.model), head_count(model)
    sizes = {getattr(config, name, None) for name in ("head_dim", "v_head_dim")} | {model.hidden_size // heads}
    return linear.out_features == model.hidden_size and linear.in_features in {heads * size for size in sizes if size}
