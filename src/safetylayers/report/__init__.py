"""The parts of which a result's self-contained HTML page is made.

    page = Page("Safety map of tiny", lead="...", sections=[Section("Curves", [LineChart(...), Table(...)])])
    write_page(page, Path("report.html"))

The room knows no other room's results: whoever has one builds a `Page` of these parts.
"""

from __future__ import annotations

from safetylayers.report.curve_chart import Curve, CurveChart
from safetylayers.report.drawing import MAX_SERIES
from safetylayers.report.fold import Fold
from safetylayers.report.forest_chart import Bar, ForestChart
from safetylayers.report.heat_map import HeatMap
from safetylayers.report.line_chart import Band, Line, LineChart, Marker
from safetylayers.report.numbers import Axis, Measure
from safetylayers.report.page import MAX_BYTES, Columns, Page, Part, Section, render_page, write_page
from safetylayers.report.prose import BulletList, Callout, Code, Facts, KeyFigure, KeyFigures, Paragraph
from safetylayers.report.replies import Replies, Reply
from safetylayers.report.scatter_chart import Dot, ScatterChart
from safetylayers.report.series import MAX_LINES
from safetylayers.report.shaded import ShadedText, ShadedWord
from safetylayers.report.sweep_chart import Candidate, SweepChart
from safetylayers.report.tables import Cell, Table

__all__ = [
    "MAX_BYTES",
    "MAX_LINES",
    "MAX_SERIES",
    "Axis",
    "Band",
    "Bar",
    "BulletList",
    "Callout",
    "Candidate",
    "Cell",
    "Code",
    "Columns",
    "Curve",
    "CurveChart",
    "Dot",
    "Facts",
    "Fold",
    "ForestChart",
    "HeatMap",
    "KeyFigure",
    "KeyFigures",
    "Line",
    "LineChart",
    "Marker",
    "Measure",
    "Page",
    "Paragraph",
    "Part",
    "Replies",
    "Reply",
    "ScatterChart",
    "Section",
    "ShadedText",
    "ShadedWord",
    "SweepChart",
    "Table",
    "render_page",
    "write_page",
]
