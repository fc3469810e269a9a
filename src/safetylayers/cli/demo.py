"""`safetylayers demo`: the main road, on the practice model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from safetylayers.cli.shared import ConfigOption, JsonOption, SeedOption, console, echo_json, show_progress
from safetylayers.records import Record

EXAMPLE = "Example: `safetylayers demo`"


def run_command(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for map, models and report.")] = Path(
        "safetylayers-demo"
    ),
    full: Annotated[
        bool, typer.Option("--full", help="All attacks, with controls, three seeds; half an hour, resumable.")
    ] = False,
    seed: SeedOption = 0,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Locate the practice model's safety layers, undo its safety with and without protection, and report."""
    del config
    (_full if full else _short)(output / "full" if full else output, seed, json)


def _short(output: Path, seed: int, as_json: bool) -> None:
    from safetylayers.demo.pages import demo_page
    from safetylayers.demo.study import Plan, run_demo, summary_rows
    from safetylayers.report import write_page

    with show_progress() as progress:
        result, found = run_demo(output, Plan(seed=seed), progress)
    report = write_page(demo_page(result, found), output / "report.html")
    _show(result, summary_rows(result), found.verdict, as_json)
    console.print(
        f"Report: {report}\n\nTry next:\n"
        "  safetylayers locate tiny-base          (a model without safety layers, and how that is seen)\n"
        f"  safetylayers evaluate tiny {output / 'models' / 'full'} {output / 'models' / 'sppft'}\n"
        "  safetylayers locate YOUR-MODEL -o map  (then: safetylayers finetune YOUR-MODEL DATA --map map)"
    )


def _full(output: Path, seed: int, as_json: bool) -> None:
    from safetylayers.demo.full import FullPlan, run_full
    from safetylayers.demo.full_pages import full_page, full_rows
    from safetylayers.report import write_page

    with show_progress() as progress:
        result, found = run_full(output, FullPlan(seeds=range(seed, seed + 3)), progress)
    report = write_page(full_page(result, found), output / "report.html")
    _show(result, full_rows(result), found.verdict, as_json)
    console.print(f"Report: {report}")


def _show(result: Record, rows: Sequence[tuple[str, ...]], title: str, as_json: bool) -> None:
    """Print the table, or the record, to standard output."""
    from rich.console import Console
    from rich.table import Table

    if as_json:
        echo_json(result.model_dump_json(indent=2))
        return
    header, *body = rows
    table = Table(*header, title=title)
    for row in body:
        table.add_row(*row)
    Console().print(table)


run_command.__name__ = "demo"
