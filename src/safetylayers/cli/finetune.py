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
    MeasureOption,
    ModelArgument,
    RowsArgument,
    SeedOption,
    console,
    echo_json,
    measure_change,
    show_progress,
)

EXAMPLE = "Example: `safetylayers finetune tiny data.jsonl --map tiny-map -o tuned`"
METHOD_HELP = (
    "Joined by '-', at most one of each: full, sppft or freeze:A-B; lora or safelora; lisa, constrained, mix or kl."
)


def run_command(
    model: ModelArgument,
    data: RowsArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the tuned model.")] = Path("tuned"),
    map_folder: Annotated[Path | None, typer.Option("--map", help="Safety map; sppft methods need it.")] = None,
    method: Annotated[str, typer.Option("--method", help=METHOD_HELP)] = "sppft",
    base: Annotated[str | None, typer.Option("--base", help="safelora: the model before alignment.")] = None,
    safety: Annotated[
        str | None,
        typer.Option("--safety", help="lisa, mix, kl: rows with refusals; by itself built-in prompts with its own."),
    ] = None,
    safety_share: Annotated[float | None, typer.Option("--safety-share", help="mix: of all rows. [0.1]")] = None,
    safety_steps: Annotated[int | None, typer.Option("--safety-steps", help="lisa: in a cycle. [4]")] = None,
    user_steps: Annotated[int | None, typer.Option("--user-steps", help="lisa: in a cycle. [6]")] = None,
    proximal: Annotated[float | None, typer.Option("--proximal", help="lisa: weight of the distance. [1]")] = None,
    kl_weight: Annotated[float | None, typer.Option("--kl-weight", help="kl: of the distance. [1]")] = None,
    kl_at: Annotated[str | None, typer.Option("--kl-at", help="kl: outputs, layers or both. [outputs]")] = None,
    project_below: Annotated[
        float | None, typer.Option("--project-below", help="safelora: similarity of what is projected. [0.35]")
    ] = None,
    scope: Annotated[
        Literal["projections", "layers"], typer.Option("--scope", help="What is held: projections, or whole layers.")
    ] = "projections",
    learning_rate: Annotated[float, typer.Option("--learning-rate")] = 1e-4,
    epochs: Annotated[float, typer.Option("--epochs")] = 3,
    steps: Annotated[int | None, typer.Option("--steps", help="Instead of epochs.")] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1)] = 4,
    measure: MeasureOption = True,
    seed: SeedOption = 0,
    dtype: DtypeOption = None,
    device: DeviceOption = None,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Fine-tune a model while its safety layers are held still, and prove that they were."""
    del config
    from safetylayers.finetune import MethodOptions, write_model_card
    from safetylayers.finetune import finetune as tune
    from safetylayers.locate import SafetyMap
    from safetylayers.models import ChatModel
    from safetylayers.prompts import load_examples

    with show_progress() as progress:
        source = ChatModel.load(model, dtype=dtype, device=device)
        result = tune(
            source,
            load_examples(data),
            method=method,
            map=SafetyMap.load(map_folder) if map_folder else None,
            output=output,
            base=base,
            safety=load_examples(safety) if safety else None,
            options=MethodOptions(
                safety_share=safety_share,
                safety_steps=safety_steps,
                user_steps=user_steps,
                proximal=proximal,
                kl_weight=kl_weight,
                kl_at=kl_at,
                project_below=project_below,
            ),
            scope=scope,
            learning_rate=learning_rate,
            epochs=epochs,
            max_steps=steps,
            batch_size=batch_size,
            seed=seed,
            progress=progress,
        )
        if measure:
            made = ChatModel.load(output, dtype=dtype, device=device)
            table = measure_change(source, made, output, lambda text: write_model_card(output, result, text), progress)
    if json:
        echo_json(result.model_dump_json(indent=2))
    elif measure:
        typer.echo(table)
    console.print(f"Model: {output}")


run_command.__name__ = "finetune"
