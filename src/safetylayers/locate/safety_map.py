"""The safety map: what was found, in a folder of `map.json` and `tensors.safetensors`, bound to one model's weights."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field
from torch import Tensor, nn

from safetylayers.errors import DataError, MapError, NoSafetyLayersError, WrongModelError
from safetylayers.locate.curves import Curve
from safetylayers.locate.decision import Sweep
from safetylayers.locate.directions import ProbeScore
from safetylayers.locate.gap import Gap
from safetylayers.prompts import Template
from safetylayers.records import Provenance, Rate, Record, write_with_tensors
from safetylayers.stats import Interval

if TYPE_CHECKING:
    from safetylayers.models import ChatModel, Scope

SCHEMA_VERSION = 1


class MapRecord(Record):
    """Everything in a map but its tensors."""

    schema_version: Literal[1] = 1
    provenance: Provenance
    architecture: str
    n_layers: int
    mode: str
    """"default" or "faithful"."""
    template: Template
    verdict: str
    """One sentence: where the safety layers are, or why there are none."""
    first: int | None = None
    """First safety layer, 0-based; none where there are none."""
    last: int | None = None
    """Last safety layer, inclusive."""
    first_interval: Interval | None = None
    """95 % bootstrap interval over prompts of the first layer, alpha and the last layer as they were found."""
    last_interval: Interval | None = None
    """The same of the last layer, alpha and the onset as they were found."""
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

    @property
    def content_hash(self) -> str:
        """SHA-256 of the record: what later results name the map by."""
        return hashlib.sha256(self.record.model_dump_json().encode()).hexdigest()

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
            UsageError: the model has fewer layers than the map's, or there is no such scope.
        """
        from safetylayers.models import ChatModel, freeze_layers

        return freeze_layers(model.model if isinstance(model, ChatModel) else model, *self.range, scope)

    def save(self, folder: str | Path) -> Path:
        """Write `map.json` and `tensors.safetensors` into a folder. Raises OutputError."""
        from safetensors.torch import save_file

        tensors = {name: tensor.contiguous() for name, tensor in self.tensors.items()}
        return write_with_tensors(
            Path(folder),
            ("map.json", self.record),
            lambda target: save_file(tensors, target / "tensors.safetensors"),
            what="map",
        )

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
