"""Putting safety layers on a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from safetylayers.attach.attached import Attached
from safetylayers.attach.control import Control
from safetylayers.attach.layers import SafetyLayers
from safetylayers.attach.trace import TraceCallback
from safetylayers.attach.untrained import from_map
from safetylayers.locate import SafetyMap

if TYPE_CHECKING:
    from safetylayers.models import ChatModel


def attach(
    model: ChatModel,
    source: SafetyLayers | SafetyMap | str | Path,
    *,
    control: Control | None = None,
    trace: TraceCallback | None = None,
) -> Attached:
    """Put safety layers on a model; as a context manager, what it returns takes them off again.

    Args:
        model: the model; none of its weights is touched.
        source: trained layers, or the folder that holds them; or a map, of which untrained ones are made (`from_map`).
        control: where orders come from; by itself a port of its own, `attached.control`.
        trace: told of every token.

    Raises:
        WrongModelError: layers or map are another model's.
        LayersError: the folder holds none, or they are damaged.
        UsageError: the model has safety layers on already.
    """
    if isinstance(source, SafetyMap):
        layers = from_map(model, source)
    else:
        layers = source if isinstance(source, SafetyLayers) else SafetyLayers.load(source)
    layers.check(model)
    return Attached(model, layers, control=control, trace=trace)


def load_attached(
    folder: str | Path,
    *,
    dtype: str | None = None,
    device: str | None = None,
    control: Control | None = None,
    trace: TraceCallback | None = None,
) -> Attached:
    """Load a model folder that holds safety layers, and put them on.

    Raises:
        ModelError: the model cannot be loaded.
        LayersError: the folder holds no safety layers, or they are damaged.
        WrongModelError: they are another model's.
    """
    from safetylayers.models import ChatModel

    return attach(ChatModel.load(folder, dtype=dtype, device=device), folder, control=control, trace=trace)
