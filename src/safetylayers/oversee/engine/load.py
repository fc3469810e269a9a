"""An engine from a model's folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from safetylayers.oversee.engine.local import LocalEngine


def load_engine(
    source: str | Path,
    *,
    map_folder: Path | None = None,
    dtype: str | torch.dtype | None = None,
    device: str | None = None,
    names: tuple[str, ...] = (),
    max_batch: int = 32,
    max_waiting: int = 128,
    max_context: int | None = None,
) -> LocalEngine:
    """Load a model with what can watch it.

    Safety layers in the model's folder watch and steer. Otherwise a map's probes watch, and nothing steers. Without
    either, nothing watches.

    Args:
        source: folder, hub id or practice model.
        map_folder: of the model's safety map; not needed where the folder holds safety layers.
        dtype: by itself float32 on a CPU, bfloat16 elsewhere.
        device: by itself the best there is.
        names: that the model can be asked by; by themselves the last part of `source`.
        max_batch: so many replies are made at once.
        max_waiting: so many more may wait.
        max_context: tokens of prompt and reply together; by itself the model's.

    Raises:
        ModelError: the model cannot be loaded.
        MapError: the map cannot be read, is another model's, or has no safety layers.
        LayersError: the safety layers are damaged.
        WrongModelError: they are another model's.
    """
    from safetylayers.attach import SafetyLayers, from_map, has_layers
    from safetylayers.locate import SafetyMap
    from safetylayers.models import ChatModel
    from safetylayers.models.loading import folder_of
    from safetylayers.oversee.engine.local import LocalEngine

    model = ChatModel.load(source, dtype=dtype, device=device)
    folder = folder_of(source)
    layers = None
    if folder is not None and has_layers(folder):
        layers = SafetyLayers.load(folder)
        layers.check(model)
    elif map_folder is not None:
        layers = from_map(model, SafetyMap.load(map_folder))
    return LocalEngine(
        model,
        layers=layers,
        steers=layers is not None and layers.record.trained,
        names=names or (Path(source).name,),
        max_batch=max_batch,
        max_waiting=max_waiting,
        max_context=max_context,
    )
