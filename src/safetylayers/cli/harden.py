"""`safetylayers harden`: adversarial training at the safety layers and elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from safetylayers.cli.shared import (
    ConfigOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    MeasureOption,
    ModelArgument,
    SeedOption,
    console,
    echo_json,
    measure_change,
    show_progress,
)

EXAMPLE = "Example: `safetylayers harden tiny --method deep-alignment+embeddings --map tiny-map -o hardened`"
METHOD_HELP = (
    "latent, embeddings, discrete, circuit-breaker, deep-alignment or refusal-feature; or several, joined by '+'."
)


def run_command(
    model: ModelArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the hardened model.")] = Path("hardened"),
    method: Annotated[str, typer.Option("--method", help=METHOD_HELP)] = "deep-alignment+embeddings",
    map_folder: Annotated[
        Path | None, typer.Option("--map", help="Safety map, for methods that act at layers.")
    ] = None,
    layers: Annotated[
        str, typer.Option("--layers", help="map, fixed (the papers'), random (as many as the map's), or A-B.")
    ] = "map",
    harmful: Annotated[
        str | None, typer.Option("--harmful", help="Requests to refuse, with compliant replies: file or hub id.")
    ] = None,
    retain: Annotated[
        str | None, typer.Option("--retain", help="Requests with the replies to keep: file or hub id.")
    ] = None,
    lora: Annotated[bool, typer.Option("--lora/--full", help="Train adapters, or all weights.")] = True,
    learning_rate: Annotated[float, typer.Option("--learning-rate", min=0)] = 5e-4,
    steps: Annotated[int, typer.Option("--steps", min=1)] = 300,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Harmful rows a step.")] = 16,
    retain_weight: Annotated[float, typer.Option("--retain-weight", min=0, help="Of the utility data's loss.")] = 1.0,
    measure: MeasureOption = True,
    seed: SeedOption = 0,
    dtype: DtypeOption = None,
    device: DeviceOption = None,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Harden a model against attacks by adversarial training, and tell what it costs."""
    del config
    from safetylayers.harden import HardenSettings, write_harden_card
    from safetylayers.harden import harden as train
    from safetylayers.locate import SafetyMap
    from safetylayers.models import ChatModel
    from safetylayers.prompts import load_examples

    with show_progress() as progress:
        source = ChatModel.load(model, dtype=dtype, device=device)
        result = train(
            source,
            method=method,
            output=output,
            map=SafetyMap.load(map_folder) if map_folder else None,
            layers=layers,
            harmful=load_examples(harmful) if harmful else None,
            retain=load_examples(retain) if retain else None,
            lora=lora,
            settings=HardenSettings(
                learning_rate=learning_rate, steps=steps, batch_size=batch_size, retain_weight=retain_weight
            ),
            check=measure,
            seed=seed,
            progress=progress,
        )
        if measure:
            made = ChatModel.load(output, dtype=dtype, device=device)
            table = measure_change(source, made, output, lambda text: write_harden_card(output, result, text), progress)
    if json:
        echo_json(result.model_dump_json(indent=2))
    elif measure:
        typer.echo(table)
    if result.collapse:
        console.print(result.collapse.verdict)
    console.print(f"Model: {output}. What attacks now reach: safetylayers attack {output}")


run_command.__name__ = "harden"
