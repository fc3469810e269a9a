"""Safety layers as a thing to keep: a record and tensors beside a model's weights, tied to them by their hash."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

import torch
from pydantic import Field, model_validator

from safetylayers.attach.correction import Correction
from safetylayers.attach.gate import GateSettings, HeadCalibration, Rules
from safetylayers.attach.heads import Heads, HostHeads
from safetylayers.attach.records import Health, PlacedBy
from safetylayers.attach.scores import HeadScore
from safetylayers.errors import DataError, LayersError, ModelError, WrongModelError
from safetylayers.locate.directions import prompt_ending
from safetylayers.prompts import Template
from safetylayers.records import Provenance, Record, write_with_tensors

if TYPE_CHECKING:
    from safetylayers.models import ChatModel

RECORD, TENSORS = "safety_layers.json", "safety_layers.safetensors"
SCHEMA_VERSION = 1


class LayersRecord(Record):
    """Everything about a model's safety layers but their tensors."""

    schema_version: Literal[1] = 1
    provenance: Provenance
    map_hash: str
    """`SafetyMap.content_hash` of the map they were built on."""
    n_layers: int
    """Of the model."""
    hidden_size: int
    layers: tuple[int, ...] = Field(min_length=1)
    """The decoder layers they are attached to, ascending; the gate and the correction are at the last."""
    placed_by: PlacedBy
    """The map's range; where it has none, the layers at which heads tell most; or the user's own."""
    template: Template
    trained: bool
    """Whether heads and correction were trained; otherwise the map's probes and its refusal direction serve."""
    heads: tuple[str, ...] = Field(min_length=1)
    width: int = Field(ge=0)
    """Of the heads' hidden layer; 0 for linear heads."""
    pools: int = Field(ge=0)
    rank: int = Field(ge=0)
    """Of the correction; 0 for plain steering."""
    calibration: dict[str, HeadCalibration]
    gate: GateSettings = GateSettings()
    health: Health | None = None
    """What they do for the weights that they are tied to; None of layers that were never examined."""
    scores: tuple[HeadScore, ...] = ()
    """What the heads reached on rows that they were not trained on: as they are, shifted, and perturbed."""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        """Refuse layers that could never open, or that are not of such a model."""
        if list(self.layers) != sorted(set(self.layers)) or self.layers[0] < 0 or self.layers[-1] >= self.n_layers:
            raise ValueError(f"layers {self.layers} are not ascending layers of {self.n_layers}")
        if set(self.calibration) != set(self.heads) or len(set(self.heads)) < len(self.heads):
            raise ValueError("heads and their calibration do not match")
        if not any(known.thresholds for known in self.calibration.values()):
            raise ValueError("no head can open the gate")
        return self


class Modules(NamedTuple):
    """Heads and correction on one device."""

    heads: Heads
    host_heads: HostHeads
    correction: Correction


@dataclass(frozen=True)
class SafetyLayers:
    """Heads, gate and correction of one model."""

    record: LayersRecord
    heads: Heads
    correction: Correction
    _placed: dict[torch.device, Modules] = field(default_factory=dict, init=False, compare=False, repr=False)

    def check(self, model: ChatModel) -> None:
        """Make sure that they are this model's.

        Raises:
            WrongModelError: the weights' hash is another one.
        """
        mine = self.record.provenance
        if model.weights_hash != mine.model_hash:
            raise WrongModelError(
                f"The safety layers were made for {mine.model} ({mine.model_hash[:12]}), not for {model.name} "
                f"({model.weights_hash[:12]}).",
                mend=f"If these weights came from those by fine-tuning: "
                f"safetylayers attach {model.name} --revalidate LAYERS",
            )

    def rules(self, model: ChatModel) -> Rules:
        """Return what the gate decides by on this model.

        Raises:
            ModelError: the model has no token that ends a text, so that no reply could be stopped.
        """
        check_ends(model)
        return Rules(
            heads=self.record.heads,
            calibration=self.record.calibration,
            settings=self.record.gate,
            ending=prompt_ending(model, self.record.template),
            ends_of_text=model.ends_of_text,
            layers=len(self.record.layers),
            channels=self.heads.channels,
        )

    def modules_on(self, device: torch.device) -> Modules:
        """Return heads and correction on a device, in float32 and without gradients; one copy a device is kept."""
        if device not in self._placed:
            # The first to ask may be in inference mode; what is kept must serve those who want gradients as well.
            with torch.inference_mode(mode=False):
                heads = copy.deepcopy(self.heads).to(device).requires_grad_(False)
                correction = copy.deepcopy(self.correction).to(device).requires_grad_(False)
            self._placed[device] = Modules(heads, HostHeads(heads), correction)
        return self._placed[device]

    def save(self, folder: str | Path) -> Path:
        """Write them into a folder, which may be the model's own. Raises OutputError."""
        from safetensors.torch import save_file

        tensors = {
            f"{part}.{name}": tensor.detach().cpu().contiguous()
            for part, module in (("heads", self.heads), ("correction", self.correction))
            for name, tensor in module.state_dict().items()
        }
        return write_with_tensors(
            Path(folder),
            (RECORD, self.record),
            lambda target: save_file(tensors, target / TENSORS),
            what="safety layers",
        )

    @classmethod
    def load(cls, folder: str | Path) -> SafetyLayers:
        """Read them back.

        Raises:
            LayersError: they are missing, damaged or of an unknown version.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = Path(folder) / RECORD
        if not path.is_file():
            raise LayersError(
                f"{folder}: holds no safety layers.", mend="Make them: safetylayers attach MODEL --map MAP"
            )
        again = "Attach again: safetylayers attach MODEL --map MAP"
        try:
            version = json.loads(path.read_text("utf-8")).get("schema_version")
            if version != SCHEMA_VERSION:
                raise LayersError(f"{path}: schema version {version}, expected {SCHEMA_VERSION}.", mend=again)
            record = LayersRecord.read(path)
            tensors = load_file(Path(folder) / TENSORS)
            heads = Heads(len(record.layers), record.hidden_size, record.heads, width=record.width, pools=record.pools)
            correction = Correction(record.hidden_size, record.rank)
            for part, module in (("heads.", heads), ("correction.", correction)):
                mine = {name.removeprefix(part): tensor for name, tensor in tensors.items() if name.startswith(part)}
                module.load_state_dict(mine)
        except (DataError, SafetensorError, OSError, ValueError, AttributeError, RuntimeError) as error:
            raise LayersError(
                f"{folder}: the safety layers are damaged ({str(error).splitlines()[0]}).", mend=again
            ) from error
        return cls(record, heads, correction)


def check_ends(model: ChatModel) -> None:
    """Make sure that a reply can be stopped.

    Raises:
        ModelError: the model has no token that ends a text.
    """
    if not model.ends_of_text:
        raise ModelError(
            f"{model.name}: has no token that ends a text, so no reply could be stopped.",
            mend="Set eos_token_id in its generation configuration.",
        )


def has_layers(folder: str | Path) -> bool:
    """Whether a folder holds safety layers."""
    return (Path(folder) / RECORD).is_file()
