"""`safetylayers locate`: from a model to its safety map."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from safetylayers.cli.shared import (
    ConfigOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelArgument,
    SeedOption,
    TemplateOption,
    console,
    echo_json,
    show_progress,
)

EXAMPLE = "Example: `safetylayers locate tiny -o tiny-map`"


def run_command(
    model: ModelArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the map and its report.")] = Path("map"),
    base: Annotated[str | None, typer.Option("--base", help="The model before alignment, as a control.")] = None,
    normal: Annotated[
        str | None, typer.Option("--normal", help="Harmless prompts; by default normal/calibration.")
    ] = None,
    malicious: Annotated[
        str | None, typer.Option("--malicious", help="Prompts to be refused; by default malicious/calibration.")
    ] = None,
    borderline: Annotated[
        str | None,
        typer.Option("--borderline", help="Over-refusal prompts; by default all built-in but the test ones."),
    ] = None,
    mode: Annotated[
        Literal["default", "faithful"],
        typer.Option("--mode", help="default, or faithful to the paper (slower)."),
    ] = "default",
    template: TemplateOption = "chat",
    seed: SeedOption = 0,
    dtype: DtypeOption = None,
    device: DeviceOption = None,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Find a model's safety layers and write its safety map."""
    del config
    from safetylayers.locate import locate as find
    from safetylayers.locate.pages import map_page
    from safetylayers.models import ChatModel
    from safetylayers.prompts import load_prompts
    from safetylayers.report import write_page

    with show_progress() as progress:
        found = find(
            ChatModel.load(model, dtype=dtype, device=device),
            normal=load_prompts(normal) if normal else None,
            malicious=load_prompts(malicious) if malicious else None,
            borderline=load_prompts(borderline) if borderline else None,
            base=ChatModel.load(base, dtype=dtype, device=device) if base else None,
            mode=mode,
            template=template,
            seed=seed,
            progress=progress,
        )
        found.save(output)
        found.record.write(output / "result.json")
        write_page(map_page(found), output / "report.html")
    if json:
        echo_json(found.record.model_dump_json(indent=2))
    else:
        typer.echo(found.verdict)
    console.print(f"Map: {output}   Report: {output / 'report.html'}")


run_command.__name__ = "locate"
