"""Where the model's safety layers are, with the parts that reports are made of."""

from __future__ import annotations

from markupsafe import Markup
from starlette.responses import Response

from safetylayers.oversee.console.visit import Visit


async def show(visit: Visit) -> Response:
    """Show the map, where one was given."""
    found = visit.house.safety_map
    drawing = None
    if found is not None:
        from safetylayers.locate.pages import map_page
        from safetylayers.report import render_page

        # A report is a page of its own, with its style in it. Its middle has no style and no script, only classes.
        html = await visit.run(render_page, map_page(found))
        drawing = Markup(html.partition("<main>")[2].partition("</main>")[0])  # noqa: S704 a template's own output
    verdict = found.verdict if found is not None else ""
    return await visit.page("map.html.j2", {"title": "Safety map", "drawing": drawing, "verdict": verdict})
