"""`safetylayers restore`: a model's refusals brought back after a fine-tune has undone them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from safetylayers.cli.shared import (
    ConfigOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    SeedOption,
    console,
    echo_json,
    show_progress,
)

EXAMPLE = "Example: `safetylayers restore tuned --aligned tiny --map tiny-map --task data.jsonl -o restored`"


def run_command(
    tuned: Annotated[str, typer.Argument(help="The model whose refusals are gone: folder or hub id.")],
    aligned: Annotated[str, typer.Option("--aligned", help="The model that it was fine-tuned from.")],
    map_folder: Annotated[Path, typer.Option("--map", help="The aligned model's safety map.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the restored model.")] = Path("restored"),
    method: Annotated[
        Literal["graft", "resta", "lox"], typer.Option("--method", help="How; resta and lox need --base.")
    ] = "graft",
    base: Annotated[
        str | None, typer.Option("--base", help="The model before alignment, or with its alignment undone.")
    ] = None,
    task: Annotated[
        str | None, typer.Option("--task", help="Rows like the fine-tune's, to keep what it has gained.")
    ] = None,
    tolerance: Annotated[
        float, typer.Option("--tolerance", help="Harmful rate allowed above the aligned model's, as a share.")
    ] = 0.03,
    rank: Annotated[int, typer.Option("--rank", help="lox: singular directions that are kept.")] = 6,
    drop: Annotated[float, typer.Option("--drop", help="resta: share of the update that DARE drops.")] = 0.0,
    measure: Annotated[
        bool, typer.Option("--measure/--no-measure", help="Compare aligned, tuned and restored on the test prompts.")
    ] = True,
    seed: SeedOption = 0,
    dtype: DtypeOption = None,
    device: DeviceOption = None,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Search for the cheapest change of weights that brings a fine-tuned model's refusals back, without training."""
    del config
    from safetylayers.evaluate import evaluate
    from safetylayers.evaluate.pages import evaluation_sections
    from safetylayers.evaluate.tables import evaluation_markdown
    from safetylayers.finetune import restore
    from safetylayers.finetune.pages import restore_page, verdict
    from safetylayers.locate import SafetyMap
    from safetylayers.models import ChatModel
    from safetylayers.prompts import load_examples
    from safetylayers.report import write_page

    with show_progress() as progress:
        broken, original = (ChatModel.load(each, dtype=dtype, device=device) for each in (tuned, aligned))
        result = restore(
            broken,
            original,
            SafetyMap.load(map_folder),
            output=output,
            method=method,
            base=ChatModel.load(base, dtype=dtype, device=device) if base else None,
            task=load_examples(task) if task else None,
            tolerance=tolerance,
            rank=rank,
            drop=drop,
            seed=seed,
            progress=progress,
        )
        page = restore_page(result)
        if measure:
            restored = ChatModel.load(output, dtype=dtype, device=device)
            comparison = evaluate([original, broken, restored], progress=progress)
            comparison.write(output / "evaluation.json")
            sections = evaluation_sections(comparison, highlighted=[restored.name])
            page = replace(page, sections=[*sections, *page.sections])
    write_page(page, output / "report.html")
    if json:
        echo_json(result.model_dump_json(indent=2))
    elif measure:
        typer.echo(evaluation_markdown(comparison))
    console.print(f"{verdict(result)}\nModel: {output}")


run_command.__name__ = "restore"
