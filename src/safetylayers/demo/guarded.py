"""The demo's attached rows: the same models, with safety layers built in."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from safetylayers.attach import GuardedModel, Revalidation, SafetyLayers, has_layers, revalidate, train_layers
from safetylayers.locate import SafetyMap
from safetylayers.models import ChatModel
from safetylayers.records import ProgressCallback
from safetylayers.tiny.practice import practice_rows

ATTACHED = "attached"


def attached_layers(
    model: ChatModel, found: SafetyMap, folder: Path, seed: int, progress: ProgressCallback | None
) -> SafetyLayers:
    """Return the model's safety layers: those in `folder`, or new ones that are saved there."""
    if has_layers(folder):
        layers = SafetyLayers.load(folder)
        layers.check(model)
        return layers
    layers = train_layers(model, found, practice_rows(), folder=folder / ".work", seed=seed, progress=progress)
    layers.save(folder)
    shutil.rmtree(folder / ".work", ignore_errors=True)
    return layers


def guarded_models(
    model: ChatModel, tuned: Sequence[ChatModel], layers: SafetyLayers, progress: ProgressCallback | None
) -> tuple[list[ChatModel], dict[str, Revalidation]]:
    """Return the model and its fine-tunes with safety layers on, and what revalidation said of each fine-tune.

    Layers that would have to be trained anew are put on all the same: what they still do is part of the answer.
    """
    guarded: list[ChatModel] = [GuardedModel(model, layers, name=ATTACHED)]
    said = {}
    for one in tuned:
        found, fitted = revalidate(one, layers, progress=progress)
        name = f"{one.name} + {ATTACHED}"
        said[name] = found
        guarded.append(GuardedModel(one, fitted, name=name))
    return guarded, said
