"""A result's page: one HTML file that needs nothing else, no script and no network."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from itertools import count
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from safetylayers.errors import OutputError
from safetylayers.records import write_text
from safetylayers.report.checks import require
from safetylayers.report.curve_chart import CurveChart
from safetylayers.report.drawing import NARROW, WIDE, Chart
from safetylayers.report.fold import Fold
from safetylayers.report.forest_chart import ForestChart
from safetylayers.report.heat_map import HeatMap
from safetylayers.report.line_chart import LineChart
from safetylayers.report.prose import BulletList, Callout, Code, Facts, KeyFigures, Paragraph
from safetylayers.report.replies import Replies
from safetylayers.report.scatter_chart import ScatterChart
from safetylayers.report.shaded import ShadedText
from safetylayers.report.sweep_chart import SweepChart
from safetylayers.report.tables import Table
from safetylayers.report.text import inline_code, visible

MAX_BYTES = 1_500_000
"""A page larger than this is no longer something to send to a colleague."""


@dataclass(frozen=True)
class Columns:
    """Two or three parts side by side; one under the other where there is no room."""

    parts: Sequence[Part]


Part = (
    Paragraph | BulletList | Callout | KeyFigures | Facts | Code | Table | Replies | ShadedText
    | LineChart | CurveChart | SweepChart | ScatterChart | ForestChart | HeatMap | Columns | Fold
)  # fmt: skip
"""What a section is made of."""

_MACROS: dict[type, str] = {
    Paragraph: "paragraph",
    BulletList: "bullets",
    Callout: "callout",
    KeyFigures: "key_figures",
    Facts: "facts",
    Code: "code",
    Table: "table",
    Replies: "replies",
    ShadedText: "shaded",
    LineChart: "chart",
    CurveChart: "chart",
    SweepChart: "chart",
    ScatterChart: "chart",
    ForestChart: "chart",
    HeatMap: "chart",
    Columns: "columns",
    Fold: "fold",
}


@dataclass(frozen=True)
class Section:
    """A headed part of the page."""

    title: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class Page:
    """All that a result's page shows, from top to bottom."""

    title: str
    lead: str = ""
    """What was found, in a sentence or two."""
    summary: Sequence[Part] = ()
    """Shown before the first section: the verdict, the key figures."""
    sections: Sequence[Section] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)
    """Where the result comes from, name to value; shown at the end."""
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    """ISO 8601."""

    def __post_init__(self) -> None:
        require(bool(self.title.strip()), "A page needs a title.")
        try:
            datetime.fromisoformat(self.created)
        except ValueError:
            require(False, f"{self.created!r} is no ISO 8601 time.", mend="Give it as 2026-01-31T12:00:00+00:00.")

    @property
    def created_text(self) -> str:
        """The time as it is read."""
        moment = datetime.fromisoformat(self.created)
        zone = f" {moment.tzname()}" if moment.tzinfo else ""
        return f"{moment.day} {moment:%B %Y, %H:%M}{zone}"


def render_page(page: Page) -> str:
    """The page as HTML.

    Raises:
        OutputError: it is larger than `MAX_BYTES`.
    """
    style = _style()
    html = (
        _environment()
        .get_template("page.html.j2")
        .render(page=page, draw=_Renderer().draw, style=Markup(style), style_hash=_hash(style))  # noqa: S704 own file
    )
    size = len(html.encode("utf-8"))
    if size > MAX_BYTES:
        raise OutputError(
            f"The page {page.title!r} would be {size:,} bytes; the limit is {MAX_BYTES:,}.",
            mend="Show fewer or shorter replies; the full record is in the result file.",
        )
    return html


def write_page(page: Page, path: Path) -> Path:
    """Write the page, whole or not at all.

    Raises:
        OutputError: it is too large, or cannot be written.
    """
    return write_text(path, render_page(page))


class _Renderer:
    """Renders the parts of one page, and numbers its charts so that their ids differ."""

    def __init__(self) -> None:
        self._numbers: Iterator[int] = count(1)

    def draw(self, part: Part) -> Markup:
        """The part as HTML."""
        require(
            type(part) in _MACROS,
            f"A {type(part).__name__} is no part of a page.",
            mend=f"Parts are {', '.join(sorted(kind.__name__ for kind in _MACROS))}.",
        )
        macro = getattr(_environment().get_template("parts.html.j2").module, _MACROS[type(part)])
        if isinstance(part, Columns | Fold):
            return Markup(macro(part, self.draw))  # noqa: S704 a template's own output
        if isinstance(part, LineChart | CurveChart | SweepChart | ScatterChart | ForestChart | HeatMap):
            return Markup(macro(part, *_pictures(part), f"c{next(self._numbers)}"))  # noqa: S704 a template's own output
        return Markup(macro(part))  # noqa: S704 a template's own output


def _pictures(chart: Chart) -> tuple[object, object]:
    return chart.draw(WIDE), chart.draw(NARROW)


@cache
def _environment() -> Environment:
    """Jinja2 with escaping on everywhere, and hidden characters made visible in all that is printed."""
    environment = Environment(
        loader=PackageLoader("safetylayers.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_show,
    )
    environment.filters["inline_code"] = inline_code
    return environment


def _show(value: object) -> object:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _style() -> str:
    return files("safetylayers.report").joinpath("templates/style.css").read_text("utf-8")


def _hash(text: str) -> str:
    """For the Content-Security-Policy: only this very style sheet may apply."""
    return "sha256-" + b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
