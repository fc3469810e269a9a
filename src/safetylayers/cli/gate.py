"""`safetylayers gate`: lets a model through or not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from safetylayers.cli.attack import open_target
from safetylayers.cli.shared import (
    AimOption,
    ConfigOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    TargetArgument,
    TemplateOption,
    console,
    echo_json,
    show_progress,
)

EXAMPLE = "Example: `safetylayers gate tuned --policy gate.yaml --junit gate.xml`"


def run_command(
    model: TargetArgument,
    policy: Annotated[Path, typer.Option("--policy", help="The bounds (YAML).")],
    safety_map: AimOption = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the record and its report.")] = Path(
        "gate"
    ),
    xml: Annotated[Path | None, typer.Option("--junit", help="Also write JUnit XML there.")] = None,
    template: TemplateOption = "chat",
    dtype: DtypeOption = None,
    device: DeviceOption = None,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Attack a model within a budget, and end with exit code 0 where every bound holds, 1 where one does not."""
    del config
    from safetylayers.attack.gate import load_gate_policy, run_gate
    from safetylayers.attack.gate.pages import gate_page, junit
    from safetylayers.attack.naming import Tools
    from safetylayers.locate import SafetyMap
    from safetylayers.records import write_text
    from safetylayers.report import write_page

    bounds = load_gate_policy(policy)
    tools = Tools(map=SafetyMap.load(safety_map) if safety_map else None)
    with show_progress() as progress:
        target = open_target(model, tokens=bounds.tokens, template=template, dtype=dtype, device=device)
        result = run_gate(bounds, target, tools=tools, keep=output / "cases", progress=progress)
        result.write(output / "result.json")
        page = write_page(gate_page(result), output / "report.html")
        if xml:
            write_text(xml, junit(result))
    if json:
        echo_json(result.model_dump_json(indent=2))
    else:
        for check in result.checks:
            typer.echo(f"{'passed' if check.passed else 'FAILED'}\t{check.name}\t{check.sentence}")
    console.print(f"Record: {output / 'result.json'}   Report: {page}")
    if not result.passed:
        raise typer.Exit(1)


run_command.__name__ = "gate"
