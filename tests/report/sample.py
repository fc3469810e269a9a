"""A page with every part, and a reader that checks HTML as a browser would not: strictly."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

from safetylayers.records import Estimate, Rate
from safetylayers.report import (
    Axis,
    Band,
    Bar,
    BulletList,
    Callout,
    Candidate,
    Code,
    Columns,
    Curve,
    CurveChart,
    Dot,
    Facts,
    ForestChart,
    KeyFigure,
    KeyFigures,
    Line,
    LineChart,
    Marker,
    Measure,
    Page,
    Paragraph,
    Replies,
    Reply,
    ScatterChart,
    Section,
    SweepChart,
    Table,
)

VOID = frozenset({"meta", "link", "br", "hr", "img", "input"})


@dataclass
class Element:
    """One element: its name, attributes, and the text directly and indirectly in it."""

    name: str
    attributes: dict[str, str]
    text: str = ""


@dataclass
class StrictReader(HTMLParser):
    """Collects the elements; an unbalanced tag or a doubled attribute is an error."""

    elements: list[Element] = field(default_factory=list)
    _open: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"doubled attribute in <{tag}>"
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag == "path", f"<{tag}/> is not closed by that: HTML knows it for SVG's elements only"
        self.handle_starttag(tag, attrs)
        self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open.pop().name == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def all(self, name: str) -> list[Element]:
        return [element for element in self.elements if element.name == name]

    def with_class(self, css: str) -> list[Element]:
        return [element for element in self.elements if css in element.attributes.get("class", "").split()]


def read(html: str) -> StrictReader:
    reader = StrictReader()
    reader.feed(html)
    reader.close()
    assert not reader._open, f"never closed: {[element.name for element in reader._open]}"
    return reader


def full_page(text: str = "plain") -> Page:
    """Every part, with `text` wherever a user's or a model's text may stand."""
    rate = Rate(count=3, total=40)
    line = Line(text, [0.1, 0.2, 0.4], [0.01, 0.02, 0.03])
    charts = (
        LineChart(text, Axis(text, "°"), [line], Axis(text), Band(1, 2, text), [Marker(1, text)], True, text, text),
        CurveChart(
            text,
            Axis(text),
            Axis(text, "%"),
            [Curve(text, [0, 2, 1], [0.1, 0.2, 0.4], [0, 0.1, 0.1])],
            True,
            text,
            text,
        ),
        SweepChart(text, Axis(text), [Candidate(text, 3), Candidate(text, 5)], 1, Axis(text), 2, text, text),
        ScatterChart(
            text, Axis(text, "%"), Axis(text, "%"), [Dot(text, Measure(0.9), Measure.of(rate))], "top left", text
        ),
    )
    parts = (
        Paragraph(text),
        BulletList([text]),
        Callout(text, text, "warning"),
        KeyFigures([KeyFigure(text, text, text, text)]),
        Facts({text: text}),
        Code(text, text),
        Table(text, [text, text], [[text, rate], [text, text]], [0], text),
        Replies(text, [Reply(text, text, text, "bad"), Reply(text, "")], text),
        Columns(charts),
        ForestChart(text, Axis(text, "%"), [Bar(text, Measure.of(rate), True)], 0.1, text, text),
        ForestChart(
            "ROUGE-L", Axis("ROUGE-L"), [Bar("tiny", Measure.of(Estimate(mean=0.4, low=0.3, high=0.5, total=9)))]
        ),
    )
    sections = [Section(text, parts), Section(text, ()), Section(text, ())]
    return Page(text, text, (Callout(text),), sections, {text: text}, "2026-01-31T12:00:00+00:00")
