"""Attribution patching: which places are worth patching, from gradients (arXiv 2310.10348).

What patching would do is estimated by the target's gradient at the counterpart's activations, times how the clean
prompt's differ from them: two forward passes and one backward pass for all layers, places and components. That is a
shortlist and shows no cause; the places that stand highest are then patched, and both numbers are given. The estimate
is right for small differences; it misses what saturates and which experts are chosen.

Shapes: R rows (an ending each), S slots (places, then the ending's tokens), H hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from safetylayers.errors import UsageError
from safetylayers.explain.patching import chosen_layers
from safetylayers.explain.swap import Patched, Swap, Way
from safetylayers.explain.target import Target
from safetylayers.explain.tokens import Reading
from safetylayers.models.components import COMPONENTS, Component, Site, captured_at, shifted_at
from safetylayers.records import ProgressCallback, Record

if TYPE_CHECKING:
    from safetylayers.models import ChatModel


class Shortlisted(Record):
    """A place that was patched because its estimate is high."""

    layer: int
    component: Component
    place: int
    """Among the record's `places`."""
    estimate: float
    """By attribution patching."""
    effect: float
    """By activation patching: what counts."""


class Attribution(Patched):
    """Estimated effects everywhere, and the measured ones of the shortlist."""

    layers: tuple[int, ...]
    estimates: dict[Component, tuple[tuple[float, ...], ...]]
    """Component -> [layers, places]; in the unit of an effect."""
    shortlist: tuple[Shortlisted, ...]
    """Largest estimate first, whatever its sign."""


def attribute(
    model: ChatModel,
    target: Target,
    clean: Reading,
    counterpart: Reading,
    *,
    way: Way = "denoising",
    components: Sequence[Component] = COMPONENTS,
    layers: Sequence[int] | None = None,
    top: int = 10,
    progress: ProgressCallback | None = None,
) -> Attribution:
    """Estimate what patching would show, and patch where the estimate is largest.

    Args:
        model: whose activations are patched.
        target: what the effect is measured on.
        clean: the prompt that is refused.
        counterpart: one that is not, best of equally many tokens.
        way: as for `patching.patch`.
        components: which ones, by itself all.
        layers: which ones, by itself all.
        top: so many are patched.
        progress: told after each that was patched.

    Raises:
        UsageError: the prompts cannot be aligned or have the same value, or there is no such layer or way.
    """
    if top < 0:
        raise UsageError(f"A shortlist of {top} makes no sense.", mend="Use 0 or more.")
    wanted = chosen_layers(model, layers)
    swap = Swap.of(model, target, clean, counterpart, way, components)
    estimates = estimate(swap, [Site(layer, component) for layer in wanted for component in components])
    places = [(site, place) for site, row in estimates.items() for place in range(len(row))]
    places.sort(key=lambda each: -abs(estimates[each[0]][each[1]]))
    shortlist = []
    for done, (site, place) in enumerate(places[:top], 1):
        (effect,) = swap.effects([site], [swap.at_each[place]])
        shortlist.append(Shortlisted(
            layer=site.layer, component=site.component, place=place, estimate=estimates[site][place], effect=effect
        ))  # fmt: skip
        if progress:
            progress(done, min(top, len(places)), "places patched")
    return Attribution(
        **swap.header,
        layers=wanted,
        estimates={part: tuple(estimates[Site(layer, part)] for layer in wanted) for part in components},
        shortlist=tuple(shortlist),
    )


def estimate(swap: Swap, sites: Sequence[Site]) -> dict[Site, tuple[float, ...]]:
    """Return the estimated effect of patching each site at each place."""
    gradients = _gradients(swap, sites)
    with captured_at(swap.model, sites, swap.into.columns) as own, torch.inference_mode():
        swap.model.logits(swap.into.batch(swap.model), last=1)
    found = {}
    for site, gradient_RSH in gradients.items():
        change_RSH = swap.held[site].double() - own[site].double()
        products_RS = (gradient_RSH.to(change_RSH) * change_RSH).sum(-1).cpu()
        by_slot_S = (products_RS * swap.into.is_own).sum(0) / swap.difference
        found[site] = tuple(float(by_slot_S[group].sum()) for group in swap.at_each)
    return found


def _gradients(swap: Swap, sites: Sequence[Site]) -> dict[Site, Tensor]:
    """Return the target's gradient by what each site gives at each slot: [R, S, H]."""
    # What is added is zero: it is there to be differentiated by, also where a part's own output is a view or a list.
    nothing = {site: torch.zeros_like(swap.held[site], requires_grad=True) for site in sites}
    with shifted_at(swap.model, nothing, swap.into.columns), torch.enable_grad():
        value = swap.target.values(swap.model, swap.into.batch(swap.model)).sum()
        found = torch.autograd.grad(value, list(nothing.values()), materialize_grads=True)
    return dict(zip(nothing, found, strict=True))
