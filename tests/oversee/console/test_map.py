"""The safety map in the console: the reports' charts, under the console's security policy."""

from __future__ import annotations

from oversee.console.browsing import Visit
from oversee.console.conftest import Console
from safetylayers.locate import SafetyMap
from safetylayers.locate.curves import Curve
from safetylayers.locate.directions import ProbeScore
from safetylayers.locate.gap import Gap
from safetylayers.locate.safety_map import MapRecord
from safetylayers.records import Provenance, Rate

NAME = "tiny<script>document.title = 1</script>"


def small_map() -> SafetyMap:
    layers = (0.1, 0.4, 0.6, 0.7)
    record = MapRecord(
        provenance=Provenance(model=NAME, model_hash="0" * 64),
        architecture="Llama",
        n_layers=4,
        mode="default",
        template="chat",
        verdict="Safety layers 1 to 2 of 0 to 3.",
        first=1,
        last=2,
        curves={kind: Curve(mean=layers, deviation=layers) for kind in ("N-N", "M-M", "N-M")},
        gap=Gap(degrees=layers, deviation=layers, peak_growth=9.0, null_growth=1.0, onset=1, smoothing=2),
        malicious_refused=Rate(count=9, total=10),
        normal_refused=Rate(count=1, total=10),
        probes=tuple(ProbeScore(auroc=0.9, low=0.8, high=0.95, threshold=1.5, held_out=120) for _ in layers),
    )
    return SafetyMap(record, {})


def test_the_map_is_drawn_and_nothing_in_it_runs(gateway: Console, visit: Visit) -> None:
    gateway.house.safety_map = small_map()
    page = visit(gateway, "audrey", "auditor")
    page.goto(f"{gateway.address}/console/map")
    assert "Safety layers 1 to 2" in page.inner_text("main")
    assert NAME in page.inner_text("main")
    band = page.locator("svg.wide .band").first
    assert band.bounding_box() is not None
    assert band.evaluate("shape => getComputedStyle(shape).fill") != "rgb(0, 0, 0)"  # the style sheet applies
    assert page.locator("main script, main style, main [style]").count() == 0
