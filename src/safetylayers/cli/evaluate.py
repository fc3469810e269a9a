"""`safetylayers evaluate`: models side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from safetylayers.cli.shared import (
    ConfigOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    SeedOption,
    TemplateOption,
    console,
    echo_json,
    show_progress,
)

EXAMPLE = "Example: `safetylayers evaluate tiny tiny-base -o comparison`"


def run_command(
    models: Annotated[
        list[str], typer.Argument(help="Folders, hub ids, 'tiny' or 'tiny-base'; the first is the baseline.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the record and its report.")] = Path(
        "evaluation"
    ),
    malicious: Annotated[str, typer.Option("--malicious", help="Prompts to be refused.")] = "malicious/test",
    borderline: Annotated[str, typer.Option("--borderline", help="Over-refusal prompts.")] = "borderline/test",
    normal: Annotated[str, typer.Option("--normal", help="Harmless prompts.")] = "normal/test",
    questions: Annotated[
        str, typer.Option("--questions", help="Checkable questions, with answers.")
    ] = "questions/test",
    tokens: Annotated[int, typer.Option("--tokens", help="Longest reply.", min=1)] = 48,
    template: TemplateOption = "chat",
    seed: SeedOption = 0,
    dtype: DtypeOption = None,
    device: DeviceOption = None,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Count what models refuse, what they comply with, and what they still know."""
    del config
    from safetylayers.evaluate import evaluate as measure
    from safetylayers.evaluate.tables import evaluation_rows
    from safetylayers.models import ChatModel
    from safetylayers.prompts import load_prompts

    with show_progress() as progress:
        found = measure(
            [ChatModel.load(model, dtype=dtype, device=device) for model in models],
            malicious=load_prompts(malicious),
            borderline=load_prompts(borderline),
            normal=load_prompts(normal),
            questions=load_prompts(questions),
            template=template,
            max_new_tokens=tokens,
            seed=seed,
            progress=progress,
        )
        found.write(output / "result.json")
    if json:
        echo_json(found.model_dump_json(indent=2))
    else:
        for row in evaluation_rows(found):
            typer.echo("\t".join(row))
    console.print(f"Record: {output / 'result.json'}")


run_command.__name__ = "evaluate"
