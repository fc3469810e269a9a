"""A model's folder with its safety layers in it: to everybody else it is the model that it was."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from safetylayers.attach.layers import SafetyLayers
from safetylayers.errors import OutputError, UsageError
from safetylayers.models.loading import folder_of

if TYPE_CHECKING:
    from safetylayers.models import ChatModel

OURS = ("safety_layers.json", "safety_layers.safetensors", "README.md")


def save_with_model(model: ChatModel, layers: SafetyLayers, output: Path) -> Path:
    """Write safety layers beside the model's untouched files.

    The files of a model that came from a folder are copied as they are; any other is saved. Nothing is copied where the
    output is the model's own folder.

    Raises:
        OutputError: there is no room.
    """
    source = folder_of(model.name)
    if source is None:
        model.save(output)
    elif source.resolve() != output.resolve():
        _copy(source, output)
    return layers.save(output)


def check_output(model: ChatModel, output: Path) -> None:
    """Make sure that no other model would be written over.

    Raises:
        UsageError: the folder holds weights that are not this model's own folder's.
    """
    source = folder_of(model.name)
    own = source is not None and source.resolve() == output.resolve()
    if not own and any(output.glob("*.safetensors")) and not (output / OURS[0]).exists():
        raise UsageError(f"{output}: holds a model already.", mend="Choose a new or an empty folder with -o.")


def _copy(source: Path, output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
        for path in source.iterdir():
            if path.is_file() and path.name not in OURS:
                shutil.copyfile(path, output / path.name)
    except OSError as error:
        raise OutputError(
            f"{output}: the model cannot be copied ({error.strerror}).",
            mend="Free some room, or choose another folder.",
        ) from error
