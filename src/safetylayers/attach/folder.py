"""A model's folder with its safety layers in it: to everybody else it is the model that it was."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from safetylayers.attach.layers import RECORD, TENSORS, SafetyLayers, has_layers
from safetylayers.errors import OutputError, UsageError
from safetylayers.models.loading import folder_of

if TYPE_CHECKING:
    from safetylayers.models import ChatModel

OURS = (RECORD, TENSORS, "result.json", "evaluation.json", "report.html")
"""What is not the model's own."""


def save_with_model(model: ChatModel, layers: SafetyLayers, output: Path) -> Path:
    """Write safety layers beside the model's untouched files.

    Files of the folder that a model was loaded from are copied as they are; a model from elsewhere is saved. Nothing is
    copied where the output is the model's own folder. The layers come first: a folder whose copy was interrupted is
    known as this model's, and can be written again.

    Raises:
        OutputError: there is no room.
    """
    layers.save(output)
    source = folder_of(model.name)
    if source is None:
        model.save(output)
    elif source.resolve() != output.resolve():
        _copy(source, output)
    return output


def check_output(model: ChatModel, output: Path) -> None:
    """Make sure that no other model would be written over; this one's layers may be made again.

    Raises:
        UsageError: the folder holds weights that are not this model's own folder's.
    """
    source = folder_of(model.name)
    if source is not None and source.resolve() == output.resolve():
        return
    if has_layers(output) and SafetyLayers.load(output).record.provenance.model_hash == model.weights_hash:
        return
    if any(output.glob("*.safetensors")):
        raise UsageError(f"{output}: holds another model.", mend="Choose a new or an empty folder with -o.")


def _copy(source: Path, output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
        for path in source.iterdir():
            if path.is_file() and path.name not in OURS:
                shutil.copyfile(path, output / f"{path.name}.part")
                (output / f"{path.name}.part").replace(output / path.name)
    except OSError as error:
        raise OutputError(
            f"{output}: the model cannot be copied ({error.strerror}).",
            mend="Free some room, or choose another folder.",
        ) from error
