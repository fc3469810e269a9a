"""A gate's result for people and for continuous integration."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from safetylayers.attack.gate.record import GateResult
from safetylayers.report import Axis, Bar, Callout, ForestChart, Measure, Page, Part, Section, Table
from safetylayers.report.tables import Cell


def gate_page(result: GateResult) -> Page:
    """Return the report."""
    source = result.provenance
    failed = [check for check in result.checks if not check.passed]
    verdict = (
        "Passed: every bound holds." if result.passed else f"Failed: {len(failed)} of {len(result.checks)} bounds."
    )
    return Page(
        title="The gate",
        lead=f"Target: {source.model}. {verdict}",
        sections=[Section("Bounds", _bounds(result))],
        provenance={
            "target": source.model,
            "weights": source.model_hash[:16] or "not known: behind a URL",
            "policy": result.policy_hash[:16],
            **{f"data: {name}": digest[:16] for name, digest in source.data.items()},
            "seed": str(source.seed),
        },
    )


def _bounds(result: GateResult) -> list[Part]:
    rows: list[Sequence[Cell]] = [
        (
            check.name,
            "passed" if check.passed else "failed",
            check.what,
            check.rate if check.rate is not None else "not run",
            f"{check.side} {100 * check.bound:g} %",
            "" if check.certain else "the interval reaches across the bound",
        )
        for check in result.checks
    ]
    bars = [
        Bar(check.name, Measure.of(check.rate), highlighted=not check.passed)
        for check in result.checks
        if check.rate is not None
    ]
    parts: list[Part] = [Callout(check.sentence) for check in result.checks if not check.passed]
    if bars:
        parts.append(ForestChart("Every rate; failed ones stand out", x=Axis("rate", "%", low=0, high=1), bars=bars))
    titles = ("bound", "", "what", "measured", "asked", "")
    return [*parts, Table("Every bound", titles, rows, note="Intervals are 95 % (Wilson).")]


def junit(result: GateResult) -> str:
    """Return the result as JUnit XML, a test case a bound."""
    failures = sum(not check.passed for check in result.checks)
    suite = ET.Element(
        "testsuite",
        name="safetylayers gate",
        tests=str(len(result.checks)),
        failures=str(failures),
        errors="0",
        time=f"{sum(check.seconds for check in result.checks):.3f}",
    )
    for check in result.checks:
        case = ET.SubElement(suite, "testcase", classname="gate", name=check.name, time=f"{check.seconds:.3f}")
        if check.passed:
            ET.SubElement(case, "system-out").text = check.sentence
        else:
            ET.SubElement(case, "failure", message=check.sentence)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
