"""A safety map as a page: the curves with the located band, the sweeps, what the numbers rest on."""

from __future__ import annotations

from collections.abc import Sequence

from safetylayers.locate.decision import Sweep
from safetylayers.locate.safety_map import MapRecord, SafetyMap
from safetylayers.report import (
    Axis,
    Band,
    Callout,
    Candidate,
    Columns,
    Line,
    LineChart,
    Marker,
    Page,
    Paragraph,
    Part,
    Section,
    SweepChart,
    Table,
)


def map_page(found: SafetyMap) -> Page:
    """Return the report of one map."""
    record = found.record
    return Page(
        title=f"Safety layers of {record.provenance.model}",
        lead=found.verdict,
        sections=map_sections(found),
        provenance=provenance_rows(record),
    )


def map_sections(found: SafetyMap) -> Sequence[Section]:
    """Return the sections about a map, for a page of one's own."""
    record = found.record
    sections = [
        Section("Where the model tells malicious from normal", _curves(record)),
        Section("What each layer knows", [_probes(record)]),
    ]
    if record.upper_sweep and record.lower_sweep:
        sections.insert(1, Section("The exact range, by over-refusal", _sweeps(record)))
    return sections


def provenance_rows(record: MapRecord) -> dict[str, str]:
    """Return what it takes to make the map again."""
    source = record.provenance
    sets = {f"data: {name}": digest[:16] for name, digest in source.data.items()}
    versions = ", ".join(f"{name} {version}" for name, version in source.versions.items())
    return {
        "model": source.model,
        "weights": source.model_hash[:16],
        **sets,
        "mode, template, seed": f"{record.mode}, {record.template}, {source.seed}",
        "versions": versions,
    }


def _curves(record: MapRecord) -> list[Part]:
    band = None
    if record.first is not None and record.last is not None:
        band = Band(record.first, record.last, "safety layers")
    gap = record.gap
    lines = [Line("this model", gap.degrees, gap.deviation)]
    if record.base_gap:
        lines.append(Line("base model", record.base_gap.degrees, record.base_gap.deviation))
    similarity = [Line(kind, curve.mean, curve.deviation) for kind, curve in record.curves.items()]
    return [
        Callout("Verdict", record.verdict, kind="good" if band else "warning"),
        LineChart(
            caption="Angular gap: how much further malicious prompts are from normal ones than these from each other",
            y=Axis("gap", "°"),
            lines=lines,
            band=band,
            markers=[Marker(gap.onset, "onset"), Marker(gap.smoothing, "first smoothing")] if band else (),
            zero_line=True,
            deviation_label="± one standard deviation over bootstrap draws of prompts",
        ),
        LineChart(
            caption="Cosine similarity of hidden states at the last prompt token, by kind of pair",
            y=Axis("cosine similarity"),
            lines=similarity,
            band=band,
        ),
        Paragraph(
            f"The gap grows by {gap.peak_growth:.1f} degrees over the early layers; with shuffled labels it stays "
            f"below {gap.null_growth:.1f} in 99 % of draws. Unscaled, the model refuses {record.malicious_refused} of "
            f"malicious and {record.normal_refused} of normal prompts."
        ),
    ]


def _sweeps(record: MapRecord) -> list[Part]:
    assert record.upper_sweep
    assert record.lower_sweep
    unscaled = record.borderline_refused.count if record.borderline_refused else None
    bounds = {"first layer": record.first_interval, "last layer": record.last_interval}
    intervals = [f"{name} {found.low:g} to {found.high:g}" for name, found in bounds.items() if found]
    tried = ", ".join(f"{sweep.alpha:g}" for sweep in record.alpha_search)
    return [
        Columns(
            [_sweep("Upper bound", record.upper_sweep, unscaled), _sweep("Lower bound", record.lower_sweep, unscaled)]
        ),
        Paragraph(
            f"Refusals of {record.upper_sweep.total} borderline prompts with the range's attention and MLP projections "
            f"multiplied by {record.alpha}, counted by {record.counted}. Strengths tried: {tried}. "
            "95 % bootstrap intervals over prompts, alpha and the other bound as they are: "
            + "; ".join(intervals)
            + ". Counted on generated text: "
            + ", ".join(f"[{candidate}] {count}" for candidate, count in record.confirmed.items())
            + "."
        ),
    ]


def _sweep(caption: str, sweep: Sweep, unscaled: int | None) -> SweepChart:
    candidates = [
        Candidate(f"{first}\N{EN DASH}{last}", count)
        for (first, last), count in zip(sweep.candidates, sweep.counts, strict=True)
    ]
    return SweepChart(caption, Axis("refusals"), candidates, chosen=sweep.chosen, reference=unscaled)


def _probes(record: MapRecord) -> Table:
    rows = [
        (layer, f"{score.auroc:.3f} [{score.low:.3f}, {score.high:.3f}]", round(score.threshold, 2))
        for layer, score in enumerate(record.probes)
    ]
    inside = set(range(record.first, record.last + 1)) if record.first is not None and record.last is not None else ()
    return Table(
        "Linear probes, malicious against normal, on held-out prompts",
        ("layer", "AUROC", "threshold at 1 % false positives"),
        rows,
        highlighted=inside,
        note=f"{record.probes[0].held_out} held-out prompts. The located layers are highlighted.",
    )
