"""`safetylayers finetune`: fine-tuning that keeps safety."""

from __future__ import annotations

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

EXAMPLE = "Example: `safetylayers finetune tiny data.jsonl --map tiny-map -o tuned`"


def run_command(
    model: Annotated[str, typer.Argument(help="Folder, hub id, 'tiny' or 'tiny-base'.")],
    data: Annotated[str, typer.Argument(help="Rows with messages, or prompt and response: file or hub id.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the tuned model.")] = Path("tuned"),
    map_folder: Annotated[Path | None, typer.Option("--map", help="Safety map; sppft methods need it.")] = None,
    method: Annotated[str, typer.Option("--method", help="sppft, full, lora, sppft-lora or freeze:A-B.")] = "sppft",
    scope: Annotated[
        Literal["projections", "layers"], typer.Option("--scope", help="What is held: projections, or whole layers.")
    ] = "projections",
    learning_rate: Annotated[float, typer.Option("--learning-rate")] = 1e-4,
    epochs: Annotated[float, typer.Option("--epochs")] = 3,
    steps: Annotated[int | None, typer.Option("--steps", help="Instead of epochs.")] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1)] = 4,
    measure: Annotated[
        bool,
        typer.Option("--measure/--no-measure", help="Safety before and after: a table in the model card, a report."),
    ] = True,
    seed: SeedOption = 0,
    dtype: DtypeOption = None,
    device: DeviceOption = None,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Fine-tune a model while its safety layers are held still, and prove that they were."""
    del config
    from safetylayers.evaluate import evaluate
    from safetylayers.evaluate.pages import evaluation_page
    from safetylayers.evaluate.tables import evaluation_markdown
    from safetylayers.finetune import finetune as tune
    from safetylayers.finetune import write_model_card
    from safetylayers.locate import SafetyMap
    from safetylayers.models import ChatModel
    from safetylayers.prompts import load_examples
    from safetylayers.report import write_page

    with show_progress() as progress:
        source = ChatModel.load(model, dtype=dtype, device=device)
        result = tune(
            source,
            load_examples(data),
            method=method,
            map=SafetyMap.load(map_folder) if map_folder else None,
            output=output,
            scope=scope,
            learning_rate=learning_rate,
            epochs=epochs,
            max_steps=steps,
            batch_size=batch_size,
            seed=seed,
            progress=progress,
        )
        if measure:
            comparison = evaluate([source, ChatModel.load(output, dtype=dtype, device=device)], progress=progress)
            comparison.write(output / "evaluation.json")
            write_model_card(output, result, evaluation_markdown(comparison))
            write_page(evaluation_page(comparison), output / "report.html")
    if json:
        echo_json(result.model_dump_json(indent=2))
    elif measure:
        typer.echo(evaluation_markdown(comparison))
    console.print(f"Model: {output}")


run_command.__name__ = "finetune"
