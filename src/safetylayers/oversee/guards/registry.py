"""Guards by the kind that a policy names: those built in, and those that other packages bring.

A package brings a guard by an entry point of the group `safetylayers.guards`: its name is the kind, and what it points
to is called with the settings from the policy, a mapping, and returns a guard. A kind that is built in cannot be
replaced by one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol, runtime_checkable

from pydantic import ValidationError

from safetylayers.errors import PolicyError, SafetyLayersError
from safetylayers.oversee.guards.base import Guard, Passage, Verdict
from safetylayers.oversee.guards.classifier import ClassifierGuard, ClassifierSettings
from safetylayers.oversee.guards.generative import GenerativeGuard, GenerativeSettings
from safetylayers.oversee.guards.limits import RepetitionGuard, RepetitionSettings, SizeGuard, SizeSettings
from safetylayers.oversee.guards.moderation import ModerationGuard, ModerationSettings
from safetylayers.oversee.guards.patterns import PatternGuard, PatternSettings
from safetylayers.oversee.guards.personal import PersonalGuard, PersonalSettings, SecretsGuard, SecretsSettings
from safetylayers.oversee.guards.perturbation import (
    EraseAndCheckSettings,
    PerplexitySettings,
    SmoothSettings,
    erase_and_check_guard,
    perplexity_guard,
    smooth_guard,
)
from safetylayers.oversee.guards.settings import GuardSettings

GROUP = "safetylayers.guards"

_BUILT_IN: dict[str, tuple[type[GuardSettings], Callable[[str, Any], Guard]]] = {
    "patterns": (PatternSettings, PatternGuard),
    "personal": (PersonalSettings, PersonalGuard),
    "secrets": (SecretsSettings, SecretsGuard),
    "size": (SizeSettings, SizeGuard),
    "repetition": (RepetitionSettings, RepetitionGuard),
    "moderation": (ModerationSettings, ModerationGuard),
    "classifier": (ClassifierSettings, ClassifierGuard),
    "generative": (GenerativeSettings, GenerativeGuard),
    "perplexity": (PerplexitySettings, perplexity_guard),
    "erase-and-check": (EraseAndCheckSettings, erase_and_check_guard),
    "smoothllm": (SmoothSettings, smooth_guard),
}


@runtime_checkable
class Opens(Protocol):
    """A guard that can be made ready before the first passage."""

    async def open(self) -> None:
        """Make ready. Raises what `check` would."""


@runtime_checkable
class Closes(Protocol):
    """A guard that holds something: connections, a model."""

    async def aclose(self) -> None:
        """Let go of it."""


def known_kinds() -> tuple[str, ...]:
    """Return all kinds that there are here, by name."""
    return tuple(sorted({*_BUILT_IN, *(entry.name for entry in entry_points(group=GROUP))}))


def make_guard(name: str, kind: str, settings: Mapping[str, Any]) -> Guard:
    """Make a guard as a policy describes it.

    Args:
        name: as the policy and the log name it.
        kind: one of `known_kinds()`.
        settings: what the policy says beside name and kind.

    Raises:
        PolicyError: there is no such kind, or a setting is unknown, missing or wrong.
    """
    if kind in _BUILT_IN:
        model, make = _BUILT_IN[kind]
        try:
            return make(name, model.model_validate(dict(settings)))
        except ValidationError as error:
            raise _bad_setting(name, model, error) from None  # its own text shows what was given, which may be secret
    plugged_in = [entry for entry in entry_points(group=GROUP) if entry.name == kind]
    if not plugged_in:
        raise PolicyError(
            f"Guard {name}: there is no kind {kind!r}.",
            mend=f"Use one of: {', '.join(known_kinds())}, or install the package that brings it.",
        )
    return _plugged_in(name, plugged_in[0], settings)


def _bad_setting(name: str, model: type[GuardSettings], error: ValidationError) -> PolicyError:
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"])) or "settings"
    return PolicyError(
        f"Guard {name}: {place}: {first['msg'].removeprefix('Value error, ')}.",
        mend=f"Its settings: {', '.join(model.model_fields) or 'none'}.",
    )


def _plugged_in(name: str, entry: EntryPoint, settings: Mapping[str, Any]) -> Guard:
    """Make another package's guard, and see that it is one."""
    try:
        guard = entry.load()(settings)
    except SafetyLayersError as error:
        raise PolicyError(f"Guard {name}: {error.message}", mend=error.mend) from error
    except Exception as error:
        raise PolicyError(
            f"Guard {name}: the package behind {entry.name} ({entry.value}) cannot make it: {type(error).__name__}.",
            mend="See that its settings are what the package expects, and that it is whole.",
        ) from error
    kinds = getattr(guard, "kinds", None)
    is_one = isinstance(kinds, tuple) and bool(kinds) and all(isinstance(each, str) for each in kinds)
    if not is_one or not inspect.iscoroutinefunction(getattr(guard, "check", None)):
        raise PolicyError(
            f"Guard {name}: what {entry.value} returns is no guard.",
            mend="It needs kinds, a tuple of names, and an asynchronous check.",
        )
    return _Named(name, guard)


@dataclass(frozen=True)
class _Named:
    """Another package's guard under the name that the policy gives it."""

    name: str
    guard: Guard

    @property
    def kinds(self) -> tuple[str, ...]:
        return self.guard.kinds

    async def check(self, passage: Passage) -> Verdict:
        return await self.guard.check(passage)

    async def open(self) -> None:
        await open_guard(self.guard)

    async def aclose(self) -> None:
        await close_guard(self.guard)


async def open_guard(guard: Guard) -> None:
    """Make a guard ready, where that takes anything. Raises what it raises."""
    if isinstance(guard, Opens):
        await guard.open()


async def close_guard(guard: Guard) -> None:
    """Let go of what a guard holds, where it holds anything."""
    if isinstance(guard, Closes):
        await guard.aclose()
