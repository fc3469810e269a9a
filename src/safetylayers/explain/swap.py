"""Two aligned prompts, and one's activations put into the other's run: what patching and its estimates share.

The opening's tokens, which follow both prompts alike, belong to the last place: the reply is chosen there.

Shapes: N variants, R rows of a variant (an ending each), T tokens, S slots (places, then the ending's tokens), H hidden
size.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from torch import Tensor

from safetylayers.errors import UsageError
from safetylayers.explain.counterparts import aligned
from safetylayers.explain.target import Projection, Target, values_of
from safetylayers.explain.tokens import Reading
from safetylayers.models.batching import run_batched
from safetylayers.models.components import COMPONENTS, Component, Site, captured_at, replaced_at
from safetylayers.models.tokens import Batch
from safetylayers.records import Provenance, Record

if TYPE_CHECKING:
    from safetylayers.models import ChatModel

Way = Literal["denoising", "noising"]
LEAST_DIFFERENCE = 1e-4
"""Between the two prompts' values. With less there is nothing to explain, and an effect would be made of rounding."""


class Place(Record):
    """Tokens of the two prompts that correspond."""

    clean: int
    counterpart: int
    clean_token: str
    counterpart_token: str


class Patched(Record):
    """Two prompts, and which was put into which."""

    schema_version: Literal[1] = 1
    provenance: Provenance
    target: str
    way: Way
    clean: str
    """The prompt that is refused."""
    counterpart: str
    clean_value: float
    counterpart_value: float
    places: tuple[Place, ...]


class Written(Record):
    """The effect of what the attention and the MLP of adjoining layers write."""

    first: int
    last: int
    """Inclusive."""
    everywhere: float
    """At all places. The first layers write down which words they read, so that much of this is a matter of course."""
    at_last: float
    """At the last place alone, whose token both prompts share: how far these layers turn the choice of the reply."""


@dataclass(frozen=True)
class Run:
    """A prompt, where it corresponds to the other one, and its value."""

    target: Target
    reading: Reading
    places: tuple[int, ...]
    value: float

    def batch(self, model: ChatModel, variants: int = 1) -> Batch:
        """Return the rows that have to be read for the prompt's value, so many times over."""
        return model.batch_of([[*self.reading.token_ids, *end] for end in self.target.endings] * variants)

    @property
    def columns(self) -> Tensor:
        """Where the slots are in each row: [R, S]. Rows of a shorter ending name its last token again."""
        length = len(self.reading.token_ids)
        rows = []
        for ending in self.target.endings:
            after = (length + min(step, len(ending) - 1) for step in range(self._longest))
            rows.append([self._longest - len(ending) + place for place in (*self.places, *after)])
        return torch.tensor(rows)

    @property
    def is_own(self) -> Tensor:
        """Which slots are the row's own: [R, S]."""
        lengths_R = torch.tensor([len(ending) for ending in self.target.endings])
        return torch.arange(len(self.places) + self._longest) < len(self.places) + lengths_R[:, None]

    @property
    def _longest(self) -> int:
        return max(map(len, self.target.endings))


@dataclass(frozen=True)
class Swap:
    """Two aligned prompts, and what is needed to put activations of the source into the other's run."""

    model: ChatModel
    target: Target
    way: Way
    source: Run
    into: Run
    held: dict[Site, Tensor]
    """What the source's run holds at each slot: [R, S, H]."""
    below: dict[int, Tensor]
    """What each layer of the other run hands on: [R, T, H]."""

    @classmethod
    def of(
        cls,
        model: ChatModel,
        target: Target,
        clean: Reading,
        counterpart: Reading,
        way: Way,
        components: Sequence[Component],
    ) -> Self:
        """Read both prompts. Raises UsageError."""
        if way not in ("denoising", "noising"):
            raise UsageError(f"There is no way {way!r} to patch.", mend="Use denoising or noising.")
        if not components:
            raise UsageError("There is nothing to patch.", mend=f"Name components: {', '.join(COMPONENTS)}.")
        readings = (clean, counterpart) if way == "denoising" else (counterpart, clean)
        sides = zip(*aligned(*readings), strict=True)
        values = values_of(target, model, [reading.token_ids for reading in readings]).tolist()
        source, into = (Run(target, *each) for each in zip(readings, sides, values, strict=True))
        sites = [Site(layer, component) for layer in range(model.n_layers) for component in components]
        with torch.inference_mode():
            with captured_at(model, sites, source.columns) as held:
                model.logits(source.batch(model), last=1)
            with model.capture(range(model.n_layers)) as below:
                model.logits(into.batch(model), last=1)
        return cls(model, target, way, source, into, held, below)

    @property
    def header(self) -> dict[str, Any]:
        """What all results of patching begin with: the fields of `Patched`."""
        clean, other = (self.source, self.into) if self.way == "denoising" else (self.into, self.source)
        tokens = clean.reading.tokens, other.reading.tokens
        return {
            "provenance": Provenance(model=self.model.name, model_hash=self.model.weights_hash),
            "target": self.target.name,
            "way": self.way,
            "clean": clean.reading.prompt,
            "counterpart": other.reading.prompt,
            "clean_value": clean.value,
            "counterpart_value": other.value,
            "places": tuple(
                Place(clean=a, counterpart=b, clean_token=tokens[0][a], counterpart_token=tokens[1][b])
                for a, b in zip(clean.places, other.places, strict=True)
            ),
        }

    @property
    def at_each(self) -> list[list[int]]:
        """The slots of each place; the ending's belong to the last one."""
        *others, last = range(len(self.into.places))
        return [*([place] for place in others), list(range(last, self.into.columns.shape[1]))]

    @property
    def difference(self) -> float:
        """What the effect is measured against. Raises UsageError where it is nothing."""
        found = self.source.value - self.into.value
        if abs(found) < LEAST_DIFFERENCE:
            raise UsageError(
                f"The {self.target.name} of the two prompts is the same: {self.into.value:.4f}.",
                mend="Give a prompt that is refused and a counterpart that is not.",
            )
        return found

    def written(self, first: int, last: int) -> Written:
        """Return the effect of what the layers' attention and MLP write."""
        sites = [Site(layer, part) for layer in range(first, last + 1) for part in COMPONENTS if part != "residual"]
        groups = [[slot for group in self.at_each for slot in group], self.at_each[-1]]
        everywhere, at_last = self.effects(sites, groups)
        return Written(first=first, last=last, everywhere=everywhere, at_last=at_last)

    def effects(self, sites: Sequence[Site], groups: Sequence[Sequence[int]]) -> list[float]:
        """Return the effect of patching the sites, all of them at once, at each group of slots."""
        return [(value - self.into.value) / self.difference for value in self.values(sites, groups)]

    def values(self, sites: Sequence[Site], groups: Sequence[Sequence[int]]) -> list[float]:
        """Return the target's value with the sites patched, all of them at once, at each group of slots."""
        size = max(1, self.model.batch_size // len(self.target.endings))

        def work(indices: list[int]) -> list[float]:
            return self._read(sites, [groups[index] for index in indices])

        return run_batched([len(self.into.reading.token_ids)] * len(groups), size, work, what="patched runs")

    def _read(self, sites: Sequence[Site], groups: Sequence[Sequence[int]]) -> list[float]:
        widest = max(map(len, groups))
        # Groups of fewer slots repeat one: it is filled with the same values again.
        slots_NS = torch.tensor([[*group, *[group[0]] * (widest - len(group))] for group in groups])
        values = {site: _by_variant(self.held[site], slots_NS) for site in sites}
        columns_BS = _by_variant(self.into.columns, slots_NS)
        start = self._start(min(site.layer for site in sites))
        with ExitStack() as stack, torch.inference_mode():
            if start:
                below_BTH = self.below[start - 1].repeat(len(groups), 1, 1)
                stack.enter_context(self.model.resume_from(start, below_BTH))
            stack.enter_context(replaced_at(self.model, values, columns_BS))
            found: list[float] = self.target.values(self.model, self.into.batch(self.model, len(groups))).tolist()
        return found

    def _start(self, layer: int) -> int:
        """Return the layer at which runs begin: the first patched one, or the first that the target reads."""
        return min(layer, *self.target.directions) if isinstance(self.target, Projection) else layer


def _by_variant(values: Tensor, slots_NS: Tensor) -> Tensor:
    """Return what each variant takes of what there is of each row and slot [R, S, ...]: [N x R, S, ...]."""
    return values[:, slots_NS.to(values.device)].transpose(0, 1).flatten(0, 1)
