"""Activation patching: what one prompt's run holds at one place is put into another prompt's run.

Causal tracing (arXiv 2202.05262, section 2.1) in the form of arXiv 2309.16042, section 2. Denoising puts what the
refused prompt holds into its counterpart's run and asks how much of the refusal comes back; noising puts the
counterpart's into the refused prompt's run and asks how much of it goes. An effect of 1 is the whole difference of the
two values. The ways need not agree: denoising finds what suffices, noising what is needed.

What is put where is `swap.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from safetylayers.errors import UsageError
from safetylayers.explain.swap import Patched, Swap, Way, Written
from safetylayers.explain.target import Target
from safetylayers.explain.tokens import Reading
from safetylayers.models.components import COMPONENTS, Component, Site
from safetylayers.records import ProgressCallback

if TYPE_CHECKING:
    from safetylayers.models import ChatModel


class Patching(Patched):
    """The effect of each component of each layer at each place."""

    layers: tuple[int, ...]
    effects: dict[Component, tuple[tuple[float, ...], ...]]
    """Component -> [layers, places]."""


class LayerPatching(Patched):
    """The effect of each layer, and of blocks of layers."""

    at_last: tuple[float, ...]
    """Of each layer's output at the last place. At all places it would tell nothing: where all tokens correspond, the
    reply follows from it alone, and its effect is 1 at every layer."""
    at_instruction_end: tuple[float, ...] | None
    """Of each layer's output at the last token that the user wrote; none where those do not correspond."""
    written: tuple[Written, ...]
    """By each layer."""
    blocks: tuple[Written, ...]
    """By the blocks that were asked for."""


def patch(
    model: ChatModel,
    target: Target,
    clean: Reading,
    counterpart: Reading,
    *,
    way: Way = "denoising",
    components: Sequence[Component] = COMPONENTS,
    layers: Sequence[int] | None = None,
    progress: ProgressCallback | None = None,
) -> Patching:
    """Patch each component of each layer at each place, one at a time.

    Args:
        model: whose activations are patched.
        target: what the effect is measured on.
        clean: the prompt that is refused.
        counterpart: one that is not, best of equally many tokens.
        way: the clean prompt's activations are put into the counterpart's run (denoising), or the other way round.
        components: which ones, by itself all.
        layers: which ones, by itself all.
        progress: told after each layer.

    Raises:
        UsageError: the prompts cannot be aligned or have the same value, or there is no such layer or way.
    """
    swap = Swap.of(model, target, clean, counterpart, way, components)
    wanted = chosen_layers(model, layers)
    effects: dict[Component, list[tuple[float, ...]]] = {component: [] for component in components}
    for done, layer in enumerate(wanted, 1):
        for component in components:
            effects[component].append(tuple(swap.effects([Site(layer, component)], swap.at_each)))
        if progress:
            progress(done, len(wanted), "layers patched")
    return Patching(
        **swap.header, layers=wanted, effects={component: tuple(grid) for component, grid in effects.items()}
    )


def patch_layers(
    model: ChatModel,
    target: Target,
    clean: Reading,
    counterpart: Reading,
    *,
    way: Way = "denoising",
    blocks: Sequence[tuple[int, int]] = (),
    progress: ProgressCallback | None = None,
) -> LayerPatching:
    """Patch each layer as a whole, and blocks of layers such as a safety map's range.

    Args:
        model: whose activations are patched.
        target: what the effect is measured on.
        clean: the prompt that is refused.
        counterpart: one that is not, best of equally many tokens.
        way: as for `patch`.
        blocks: first and last layers, inclusive.
        progress: told after each layer.

    Raises:
        UsageError: the prompts cannot be aligned or have the same value, or there is no such block or way.
    """
    for first, last in blocks:
        if first > last:
            raise UsageError(
                f"There are no layers {first} to {last}.", mend="Name a block by its first and last layer."
            )
        chosen_layers(model, (first, last))
    swap = Swap.of(model, target, clean, counterpart, way, COMPONENTS)
    ends = (swap.source.reading.last, swap.into.reading.last)
    pairs = list(zip(swap.source.places, swap.into.places, strict=True))
    groups = [swap.at_each[place] for place in (-1, *([pairs.index(ends)] if ends in pairs else []))]
    outputs, written = [], []
    for layer in range(model.n_layers):
        outputs.append(swap.effects([Site(layer, "residual")], groups))
        written.append(swap.written(layer, layer))
        if progress:
            progress(layer + 1, model.n_layers, "layers patched")
    at_last, *at_end = zip(*outputs, strict=True)
    return LayerPatching(
        **swap.header,
        at_last=at_last,
        at_instruction_end=at_end[0] if at_end else None,
        written=tuple(written),
        blocks=tuple(swap.written(first, last) for first, last in blocks),
    )


def chosen_layers(model: ChatModel, layers: Sequence[int] | None) -> tuple[int, ...]:
    """Return the layers that were asked for, by itself all. Raises UsageError."""
    chosen = tuple(range(model.n_layers) if layers is None else layers)
    if not chosen or not all(0 <= layer < model.n_layers for layer in chosen):
        raise UsageError(
            f"There are no such layers: {list(chosen)}.", mend=f"{model.name} has layers 0 to {model.n_layers - 1}."
        )
    return chosen
