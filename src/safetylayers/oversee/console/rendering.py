"""Templates: everything is escaped, and hidden characters are made visible."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from safetylayers.oversee.identity.roles import Right
from safetylayers.report.text import visible


@cache
def environment() -> Environment:
    """Return the console's templates."""
    made = Environment(
        loader=PackageLoader("safetylayers.oversee.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_show,
    )
    made.filters.update(moment=moment, as_typed=as_typed, who=who)
    made.globals["Right"] = Right
    return made


def _show(value: object) -> object:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def moment(time: datetime) -> Markup:
    """Return a time as people and programs read it."""
    utc = time.astimezone(UTC)
    return Markup('<time datetime="{}">{} UTC</time>').format(
        utc.isoformat(timespec="seconds"), utc.strftime("%Y-%m-%d %H:%M:%S")
    )


def as_typed(text: str) -> Markup:
    """Return text for a field that people edit: escaped, and not changed for them to see."""
    return escape(text)


def who(id_: str, names: Mapping[str, str]) -> str:
    """Return the name of a person, by their id or by the actor as the log names it; of others what they are called."""
    person = id_.partition("/")[0]
    return names.get(person, person)
