"""`safetylayers demo`: the main road, on the practice model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from safetylayers.cli.shared import ConfigOption, JsonOption, SeedOption, console, echo_json, show_progress

EXAMPLE = "Example: `safetylayers demo`"


def run_command(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for map, models and report.")] = Path(
        "safetylayers-demo"
    ),
    seed: SeedOption = 0,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Locate the practice model's safety layers, undo its safety with and without protection, and report."""
    del config
    from rich.table import Table

    from safetylayers.demo.pages import demo_page
    from safetylayers.demo.study import Plan, run_demo, summary_rows
    from safetylayers.report import write_page

    with show_progress() as progress:
        result, found = run_demo(output, Plan(seed=seed), progress)
    report = write_page(demo_page(result, found), output / "report.html")
    if json:
        echo_json(result.model_dump_json(indent=2))
    else:
        header, *rows = summary_rows(result)
        table = Table(*header, title=found.verdict)
        for row in rows:
            table.add_row(*row)
        console.print(table)
    console.print(
        f"Report: {report}\n\nTry next:\n"
        "  safetylayers locate tiny-base          (a model without safety layers, and how that is seen)\n"
        f"  safetylayers evaluate tiny {output / 'models' / 'full'} {output / 'models' / 'sppft'}\n"
        "  safetylayers locate YOUR-MODEL -o map  (then: safetylayers finetune YOUR-MODEL DATA --map map)"
    )


run_command.__name__ = "demo"
