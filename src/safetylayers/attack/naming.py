"""Attacks by name, as a command line or a gate's policy gives them: NAME or NAME:key=value,key=value."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args, get_type_hints

from safetylayers.attack.ablate import Ablate
from safetylayers.attack.base import Attack
from safetylayers.attack.embedding import Embedding
from safetylayers.attack.encodings import Encodings
from safetylayers.attack.finetuning import FinetuneAttack, Tune
from safetylayers.attack.gcg import Gcg
from safetylayers.attack.many_shot import ManyShot
from safetylayers.attack.pair import Pair, Tap
from safetylayers.attack.prefill import Prefill
from safetylayers.attack.record import Setting
from safetylayers.attack.residual import Residual
from safetylayers.attack.search import RandomSearch
from safetylayers.attack.templates import Templates
from safetylayers.errors import UsageError

if TYPE_CHECKING:
    from safetylayers.locate import SafetyMap
    from safetylayers.prompts import ExampleSet
    from safetylayers.targets import ChatClient

Budget = Literal["quick", "standard", "strong"]
_KINDS_OF: Mapping[type, str] = {bool: "true or false", int: "whole number", float: "number", str: "text"}
BUDGETS: tuple[str, ...] = get_args(Budget)
Settings = Mapping[str, Setting]


@dataclass(frozen=True)
class Tools:
    """What some attacks need besides their settings."""

    map: SafetyMap | None = None
    attacker: ChatClient | None = None
    """The model that writes prompts, for attacks that have one."""
    tune: Tune | None = None
    rows: ExampleSet | None = None
    """What is fine-tuned on, and by what."""

    def attacking(self) -> dict[str, object]:
        """Return the model that writes prompts. Raises UsageError where there is none."""
        if self.attacker is None:
            raise UsageError("This attack needs a model that writes prompts.", mend="Give --attacker URL#MODEL.")
        return {"attacker": self.attacker}

    def aiming(self) -> dict[str, object]:
        """Return the map's layers, where there is a map."""
        return {"layers": tuple(range(self.map.range[0], self.map.range[1] + 1))} if self.map else {}

    def tuning(self) -> dict[str, object]:
        """Return what fine-tunes, on what, and the layers that the defence holds still: the map's.

        Raises:
            UsageError: there are no rows.
        """
        if self.tune is None or self.rows is None:
            raise UsageError("This attack needs rows to fine-tune on.", mend="Give --rows FILE.")
        return {"tune": self.tune, "examples": self.rows, "frozen": self.aiming().get("layers", ())}


@dataclass(frozen=True)
class Kind:
    """An attack that can be named."""

    attack: Callable[..., Attack]
    """A dataclass: its fields are what can be set."""
    runs: tuple[Settings, ...] = ({},)
    """What its bare name stands for: one run, or several with settings of their own."""
    budgets: Mapping[str, Settings] = field(default_factory=dict)
    """Settings of each budget."""
    tools: Callable[[Tools], dict[str, object]] = lambda _: {}
    """Returns the fields that are filled from tools. Raises UsageError where one is missing."""


KINDS: Mapping[str, Kind] = {
    "prefill": Kind(Prefill, runs=tuple({"tokens": count} for count in (1, 5, 10, 20, 40))),
    "templates": Kind(Templates),
    "encodings": Kind(Encodings),
    "many-shot": Kind(ManyShot),
    "search": Kind(
        RandomSearch,
        budgets={"quick": {"steps": 30, "queries": 8}, "strong": {"steps": 1000, "queries": 128}},
    ),
    "pair": Kind(Pair, budgets={"quick": {"streams": 3}, "strong": {"streams": 30}}, tools=Tools.attacking),
    "tap": Kind(
        Tap,
        budgets={"quick": {"depth": 3, "width": 4, "branching": 2}},
        tools=Tools.attacking,
    ),
    "ablate": Kind(Ablate),
    "gcg": Kind(
        Gcg,
        budgets={"quick": {"steps": 25, "candidates": 128}, "strong": {"steps": 500, "candidates": 512}},
        tools=lambda tools: {"map": tools.map},
    ),
    "residual": Kind(
        Residual,
        budgets={"quick": {"restarts": 1, "steps": 15}, "strong": {"restarts": 10, "steps": 60}},
        tools=Tools.aiming,
    ),
    "finetune": Kind(FinetuneAttack, tools=Tools.tuning),
    "embedding": Kind(
        Embedding,
        budgets={"quick": {"restarts": 2, "steps": 20}, "strong": {"restarts": 20, "steps": 60}},
    ),
}


def parse_attacks(text: str, *, budget: Budget = "standard", tools: Tools | None = None) -> dict[str, Attack]:
    """Return the attacks that a text names, by their titles.

    Args:
        text: "prefill:tokens=10,templates,embedding:restarts=3,steps=20".
        budget: how much each may spend where the text does not say.
        tools: what some need.

    Raises:
        UsageError: there is no such attack or setting, a value makes no sense, or a tool is missing.
    """
    found: dict[str, Attack] = {}
    for name, given in _split(text):
        kind = KINDS[name]
        for run in (given,) if given else kind.runs:
            title = name + (":" + ",".join(f"{key}={value}" for key, value in run.items()) if run else "")
            settings = {**kind.budgets.get(budget, {}), **run}
            found[title] = _make(name, kind, {**settings, **kind.tools(tools or Tools())})
    return found


def _split(text: str) -> list[tuple[str, dict[str, Setting]]]:
    """Return names with their settings; what follows a comma and holds "=" belongs to the name before it."""
    found: list[tuple[str, dict[str, Setting]]] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        head, colon, rest = part.partition(":")
        if colon or "=" not in part:
            if head not in KINDS:
                raise UsageError(f"There is no attack {head!r}.", mend=f"Use one of: {', '.join(KINDS)}.")
            found.append((head, {}))
            part = rest  # noqa: PLW2901 - what is left of it
        if part:
            if not found:
                raise UsageError(f"{part!r}: a setting without an attack.", mend="Write NAME:key=value,key=value.")
            name, settings = found[-1]
            key, _, value = part.partition("=")
            settings[key] = read_setting(name, key, value, settable(name))
    if not found:
        raise UsageError("No attack is named.", mend=f"Use some of: {', '.join(KINDS)}.")
    return found


def read_setting(name: str, key: str, value: str, kinds: Mapping[str, type]) -> Setting:
    """Return a setting's value, of the type that `kinds` gives it.

    Raises:
        UsageError: there is no such setting, or the value is none of its type.
    """
    if key not in kinds:
        raise UsageError(f"{name} has no setting {key!r}.", mend=f"It has: {', '.join(kinds) or 'none'}.")
    kind = kinds[key]
    try:
        if kind is bool:
            return {"true": True, "false": False}[value.lower()]
        made: Setting = kind(value)
    except (ValueError, KeyError) as error:
        raise UsageError(f"{name}:{key}={value}: no {_KINDS_OF[kind]}.", mend="Give another value.") from error
    return made


def settable(name: str) -> dict[str, type]:
    """Return an attack's settings that a text can give, with their types."""
    attack = KINDS[name].attack
    hints = get_type_hints(attack)
    return {
        each.name: hints[each.name]
        for each in dataclasses.fields(attack)  # type: ignore[arg-type]  # each is a dataclass
        if each.name != "name" and hints[each.name] in (bool, int, float, str)
    }


def _make(name: str, kind: Kind, fields: Mapping[str, object]) -> Attack:
    try:
        return kind.attack(**fields)
    except ValueError as error:
        raise UsageError(f"{name}: {error}.", mend="Give another value.") from error
