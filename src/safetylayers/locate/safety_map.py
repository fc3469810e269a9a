"""The safety map: what was found, in a folder of `map.json` and `tensors.safetensors`, bound to one model's weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field
from torch import Tensor, nn

from safetylayers.errors import DataError, MapError, NoSafetyLayersError, OutputError, WrongModelError
from safetylayers.locate.curves import Curve
from safetylayers.locate.decision import Sweep
from safetylayers.locate.directions import ProbeScore
from safetylayers.locate.gap import Gap
from safetylayers.records import Provenance, Rate, Record
from safetylayers.stats import Interval

if TYPE_CHECKING:
    from safetylayers.models import ChatModel

SCHEMA_VERSION = 1
Scope = Literal["projections", "layers"]


class MapRecord(Record):
    """Everything in a map but its tensors."""

    schema_version: Literal[1] = 1
    provenance: Provenance
    architecture: str
    n_layers: int
    mode: str
    """"default" or "faithful"."""
    template: str
    verdict: str
    """One sentence: where the safety layers are, or why there are none."""
    first: int | None = None
    """First safety layer, 0-based; none where there are none."""
    last: int | None = None
    """Last safety layer, inclusive."""
    first_interval: Interval | None = None
    """95 % bootstrap interval over prompts of the first layer."""
    last_interval: Interval | None = None
    alpha: float | None = None
    curves: dict[str, Curve]
    """"N-N", "M-M" and "N-M" cosine similarity."""
    gap: Gap
    base_gap: Gap | None = None
    """The same of the base model, where one was given."""
    malicious_refused: Rate
    """Refusals of malicious prompts by the unscaled model."""
    normal_refused: Rate
    borderline_refused: Rate | None = None
    """R_o, unscaled."""
    alpha_search: tuple[Sweep, ...] = ()
    """The upper-bound sweep at every alpha that was tried."""
    upper_sweep: Sweep | None = None
    lower_sweep: Sweep | None = None
    counted: Literal["log-odds", "text"] | None = None
    """How the sweeps' refusals were counted; text where the log-odds could not be confirmed by it."""
    confirmed: dict[str, int] = Field(default_factory=dict)
    """Candidate ("6-9") -> refusals by generated text: the chosen range and its runner-up."""
    openings: tuple[str, ...] = ()
    """How the model's refusals begin."""
    probes: tuple[ProbeScore, ...]


@dataclass(frozen=True)
class SafetyMap:
    """A model's safety layers, and what was measured to find them."""

    record: MapRecord
    tensors: dict[str, Tensor]
    """refusal_directions, harm_directions and probe_weights [L, H], probe_bias [L]."""

    @property
    def found(self) -> bool:
        """Whether the model has safety layers."""
        return self.record.first is not None

    @property
    def verdict(self) -> str:
        """One sentence: where they are, or why there are none."""
        return self.record.verdict

    @property
    def range(self) -> tuple[int, int]:
        """First and last safety layer, 0-based and inclusive.

        Raises:
            NoSafetyLayersError: there are none.
        """
        if self.record.first is None or self.record.last is None:
            raise NoSafetyLayersError(
                f"{self.record.provenance.model} has no safety layers: {self.verdict}",
                mend="Nothing can be held still here. Use a model that was aligned, or a method without a map (full).",
            )
        return self.record.first, self.record.last

    def check(self, model: ChatModel) -> None:
        """Make sure that the map is this model's.

        Raises:
            WrongModelError: the weights' hash is another one.
        """
        mine = self.record.provenance
        if model.weights_hash != mine.model_hash:
            raise WrongModelError(
                f"The map was made for {mine.model} ({mine.model_hash[:12]}), not for {model.name} "
                f"({model.weights_hash[:12]}).",
                mend=f"Locate the layers of this model: safetylayers locate {model.name} -o MAP",
            )

    def freeze(self, model: nn.Module | ChatModel, *, scope: Scope = "projections") -> list[str]:
        """Hold the safety layers still: SPPFT's gradient mask (section 4.1). Works on any loaded copy of the model.

        Args:
            model: the model about to be trained.
            scope: attention and MLP projections only, as in the official code, or whole layers with their norms.

        Returns:
            The names of the frozen parameters.

        Raises:
            NoSafetyLayersError: there are none.
        """
        from safetylayers.models import ChatModel, find_decoder_layers, projections

        first, last = self.range
        module = model.model if isinstance(model, ChatModel) else model
        layers = find_decoder_layers(module)[first : last + 1]  # type: ignore[arg-type]  # any module of that shape
        held = {
            id(parameter)
            for layer in layers
            for parameter in (projections(layer).values() if scope == "projections" else layer.parameters())
        }
        frozen = [(name, parameter) for name, parameter in module.named_parameters() if id(parameter) in held]
        for _, parameter in frozen:
            parameter.requires_grad_(False)
        return [name for name, _ in frozen]

    def save(self, folder: str | Path) -> Path:
        """Write `map.json` and `tensors.safetensors` into a folder. Raises OutputError."""
        from safetensors.torch import save_file

        target = Path(folder)
        self.record.write(target / "map.json")
        try:
            save_file(
                {name: tensor.contiguous() for name, tensor in self.tensors.items()}, target / "tensors.safetensors"
            )
        except OSError as error:
            raise OutputError(f"{target}: the map's tensors cannot be written.", mend="Free some room.") from error
        return target

    @classmethod
    def load(cls, folder: str | Path) -> SafetyMap:
        """Read a map back.

        Raises:
            MapError: it is missing, damaged or of an unknown version.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = Path(folder) / "map.json"
        if not path.is_file():
            raise MapError(f"{folder}: holds no safety map.", mend="Make one: safetylayers locate MODEL -o MAP")
        again = "Locate again: safetylayers locate MODEL -o MAP"
        try:
            version = json.loads(path.read_text("utf-8")).get("schema_version")
            if version != SCHEMA_VERSION:
                raise MapError(f"{path}: schema version {version}, expected {SCHEMA_VERSION}.", mend=again)
            return cls(MapRecord.read(path), load_file(Path(folder) / "tensors.safetensors"))
        except (DataError, SafetensorError, OSError, ValueError, AttributeError) as error:
            raise MapError(f"{folder}: the map is damaged ({str(error).splitlines()[0]}).", mend=again) from error
