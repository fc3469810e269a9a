"""The components of a decoder layer: what it hands on, and what its attention and its MLP add on the way.

"residual" is the layer's output. "attention" and "mlp" are the outputs of the two parts that hold its projections.
Most layers add these to the residual stream as they are; where a norm stands behind the part (Gemma 2 and 3, OLMo 2),
what is read and replaced is the part's own output, before that norm.

Shapes: B rows, T tokens, P columns of each row, H hidden size.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from torch import Tensor, nn

from safetylayers.errors import UnknownArchitectureError, UsageError
from safetylayers.models.interventions import Change, changed_output
from safetylayers.models.structure import projections

if TYPE_CHECKING:
    from safetylayers.models.chat_model import ChatModel

Component = Literal["residual", "attention", "mlp"]
COMPONENTS: tuple[Component, ...] = get_args(Component)
_READS_OTHER_TOKENS = {"attention_mask", "position_embeddings"}
"""What a part that mixes tokens takes, and an MLP has no use for."""


class Site(NamedTuple):
    """A component of one layer."""

    layer: int
    component: Component


def component_module(layer: nn.Module, component: Component) -> nn.Module:
    """Return the module whose output a component is.

    Raises:
        UsageError: there is no such component.
        UnknownArchitectureError: the layer is not made of one part that mixes tokens and one that does not.
    """
    if component not in COMPONENTS:
        raise UsageError(f"A layer has no component {component!r}.", mend=f"Use {', '.join(COMPONENTS)}.")
    if component == "residual":
        return layer
    parts = [part for part in layer.children() if any(projections(part))]
    found = [part for part in parts if _mixes_tokens(part) == (component == "attention")]
    if len(found) != 1:
        raise UnknownArchitectureError(
            f"{type(layer).__name__}: {len(found)} of its parts look like its {component}.",
            mend='Its "residual" can be read all the same.',
        )
    return found[0]


def _mixes_tokens(part: nn.Module) -> bool:
    return not _READS_OTHER_TOKENS.isdisjoint(inspect.signature(part.forward).parameters)


@contextmanager
def captured_at(model: ChatModel, sites: Sequence[Site], columns_BP: Tensor) -> Iterator[dict[Site, Tensor]]:
    """Within the block, each forward pass leaves what the sites give at the rows' columns: site -> [B, P, H]."""
    found: dict[Site, Tensor] = {}

    def keeping(site: Site) -> Change:
        def keep(hidden_BTH: Tensor) -> Tensor:
            found[site] = hidden_BTH.detach().gather(1, _index(columns_BP, hidden_BTH))
            return hidden_BTH

        return keep

    with _changed(model, {site: keeping(site) for site in sites}, len(columns_BP)):
        yield found


@contextmanager
def replaced_at(model: ChatModel, values: Mapping[Site, Tensor], columns_BP: Tensor) -> Iterator[None]:
    """Within the block, each site gives its `values` [B, P, H] at the rows' columns.

    A row may name a column twice, with the same values.
    """

    def putting(values_BPH: Tensor) -> Change:
        return lambda hidden: hidden.scatter(1, _index(columns_BP, hidden), values_BPH.to(hidden))

    with _changed(model, {site: putting(values_BPH) for site, values_BPH in values.items()}, len(columns_BP)):
        yield


@contextmanager
def shifted_at(model: ChatModel, shifts: Mapping[Site, Tensor], columns_BP: Tensor) -> Iterator[None]:
    """Within the block, each site gives its `shifts` [B, P, H] on top of its own at the rows' columns."""

    def adding(shifts_BPH: Tensor) -> Change:
        return lambda hidden: hidden.scatter_add(1, _index(columns_BP, hidden), shifts_BPH.to(hidden))

    with _changed(model, {site: adding(shifts_BPH) for site, shifts_BPH in shifts.items()}, len(columns_BP)):
        yield


@contextmanager
def _changed(model: ChatModel, changes: Mapping[Site, Change], rows: int) -> Iterator[None]:
    with ExitStack() as stack:
        for site, change in changes.items():
            module = component_module(model.layers[site.layer], site.component)
            stack.enter_context(changed_output(module, _by_row(change, rows)))
        yield


def _by_row(change: Change, rows: int) -> Callable[[Tensor], Tensor]:
    """Return the change for parts as well that give the tokens of all rows in one list, as some experts do."""

    def changed(hidden: Tensor) -> Tensor:
        return change(hidden.reshape(rows, -1, hidden.shape[-1])).reshape(hidden.shape)

    return changed


def _index(columns_BP: Tensor, hidden_BTH: Tensor) -> Tensor:
    return columns_BP.to(hidden_BTH.device)[..., None].expand(-1, -1, hidden_BTH.shape[-1])
