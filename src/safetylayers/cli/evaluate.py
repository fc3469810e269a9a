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
    JudgesOption,
    SeedOption,
    TemplateOption,
    TokensOption,
    console,
    echo_json,
    load_with_layers,
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
    judges: JudgesOption = None,
    references: Annotated[
        str | None, typer.Option("--references", help="Rows with the replies for ROUGE-L and perplexity.")
    ] = None,
    choices: Annotated[
        Path | None, typer.Option("--choices", help="Multiple-choice questions, a CSV in MMLU's format.")
    ] = None,
    tokens: TokensOption = 48,
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
    from safetylayers.evaluate.pages import evaluation_page
    from safetylayers.evaluate.panel import make_judges
    from safetylayers.evaluate.tables import evaluation_rows
    from safetylayers.prompts import load_examples, load_prompts
    from safetylayers.report import write_page

    panel = make_judges(judges) if judges else None
    with show_progress() as progress:
        found = measure(
            [load_with_layers(model, dtype=dtype, device=device) for model in models],
            malicious=load_prompts(malicious),
            borderline=load_prompts(borderline),
            normal=load_prompts(normal),
            questions=load_prompts(questions),
            references=load_examples(references) if references else None,
            choices=choices,
            judges=panel,
            template=template,
            max_new_tokens=tokens,
            seed=seed,
            progress=progress,
        )
        found.write(output / "result.json")
        report = write_page(evaluation_page(found), output / "report.html")
    if json:
        echo_json(found.model_dump_json(indent=2))
    else:
        for row in evaluation_rows(found):
            typer.echo("\t".join(row))
    console.print(f"Record: {output / 'result.json'}   Report: {report}")


run_command.__name__ = "evaluate"
