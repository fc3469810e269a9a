"""`safetylayers attach`: built-in safety layers for a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from safetylayers.errors import UsageError

if TYPE_CHECKING:
    from safetylayers.attach import RowSet, SafetyLayers, Training
    from safetylayers.evaluate import Evaluation
    from safetylayers.locate import SafetyMap
    from safetylayers.models import ChatModel
    from safetylayers.prompts import PromptSet, Template
    from safetylayers.records import ProgressCallback

EXAMPLE = "Example: `safetylayers attach tiny --map tiny-map -o guarded`"
PRACTICE = "practice"
WORK = ".attach-work"
"""Hidden states and checkpoints, until a run is complete."""


def run_command(
    model: ModelArgument,
    map_folder: Annotated[Path | None, typer.Option("--map", help="The model's safety map.")] = None,
    train: Annotated[
        str | None,
        typer.Option(
            "--train",
            help="Rows with prompt and harmful, perhaps response and refused: file or hub id; or 'practice', the "
            "practice model's own corpus. By itself the built-in training split, for tiny models 'practice'.",
        ),
    ] = None,
    values: Annotated[Path | None, typer.Option("--values", help="Named values, a head each (YAML).")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the model with its layers.")] = Path(
        "guarded"
    ),
    layers: Annotated[str | None, typer.Option("--layers", help="Attach to layers A-B instead of the map's.")] = None,
    untrained: Annotated[
        bool, typer.Option("--untrained", help="Train nothing: the map's probe watches, its refusal direction steers.")
    ] = False,
    revalidate: Annotated[
        Path | None,
        typer.Option("--revalidate", help="Folder with layers of this model before it was fine-tuned: do they hold?"),
    ] = None,
    normal: Annotated[
        str, typer.Option("--normal", help="Harmless prompts that thresholds are set on.")
    ] = "normal/calibration",
    false_positives: Annotated[
        float, typer.Option("--false-positives", help="Share of harmless replies that may be changed.")
    ] = 0.01,
    width: Annotated[int, typer.Option("--width", help="Of the heads' hidden layer; 0 for linear heads.", min=0)] = 0,
    rank: Annotated[int, typer.Option("--rank", help="Of the correction.", min=1)] = 16,
    steps: Annotated[int, typer.Option("--steps", help="Of training the correction.", min=1)] = 200,
    adapter: Annotated[
        bool,
        typer.Option("--adapter", help="Also write an always-on LoRA adapter, for engines that know nothing else."),
    ] = False,
    template: TemplateOption = "chat",
    seed: SeedOption = 0,
    dtype: DtypeOption = None,
    device: DeviceOption = None,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Build heads, a gate and a correction into a model; its own weights stay as they are."""
    del config
    from safetylayers.attach.folder import check_output
    from safetylayers.evaluate.tables import evaluation_rows
    from safetylayers.models import ChatModel
    from safetylayers.prompts import load_prompts

    if revalidate and (map_folder or train or values or untrained or layers):
        raise UsageError("--revalidate goes with neither --map, --train, --values, --layers nor --untrained.")
    if untrained and (train or values or layers):
        raise UsageError("--untrained goes with neither --train, --values nor --layers: it takes all from the map.")
    if revalidate and revalidate.resolve() == output.resolve():
        raise UsageError(f"{output}: holds the layers to be revalidated.", mend="Choose another folder with -o.")
    with show_progress() as progress:
        source = ChatModel.load(model, dtype=dtype, device=device)
        check_output(source, output)
        calm = load_prompts(normal)
        if revalidate:
            _revalidate(source, revalidate, calm, false_positives, output, json, progress)
            return
        rows = _rows(train, model)
        made = _made(
            source, _map(map_folder, model), rows, values, _range(layers), untrained, calm,
            _settings(false_positives, width, rank, steps), template, output, seed, progress,
        )  # fmt: skip
        others = [_adapter(source, made, rows, output, seed, progress)] if adapter else []
        comparison = _finish(source, made, others, output, progress)
    if json:
        echo_json(made.record.model_dump_json(indent=2))
    else:
        for row in evaluation_rows(comparison):
            typer.echo("\t".join(row))
    console.print(f"Model with its safety layers: {output}   Report: {output / 'report.html'}")


def _map(folder: Path | None, model: str) -> SafetyMap:
    from safetylayers.locate import SafetyMap

    if folder is None:
        raise UsageError(
            "Safety layers need the model's safety map.",
            mend=f"Make it: safetylayers locate {model} -o MAP, then give --map MAP.",
        )
    return SafetyMap.load(folder)


def _rows(source: str | None, model: str) -> RowSet:
    from safetylayers.attach import builtin_rows, load_rows
    from safetylayers.models.loading import PRACTICE_MODELS
    from safetylayers.tiny.practice import practice_rows

    if source == PRACTICE or (source is None and model in PRACTICE_MODELS):
        return practice_rows()
    return load_rows(source) if source else builtin_rows()


def _range(layers: str | None) -> list[int] | None:
    if layers is None:
        return None
    first, _, last = layers.partition("-")
    if not (first.isdecimal() and (last or first).isdecimal()) or int(last or first) < int(first):
        raise UsageError(f"{layers!r} is no range of layers.", mend="Write it as 6-12, or one layer as 6.")
    return list(range(int(first), int(last or first) + 1))


def _settings(false_positives: float, width: int, rank: int, steps: int) -> Training:
    from safetylayers.attach import CorrectionTraining, HeadTraining, Training

    return Training(
        heads=HeadTraining(width=width),
        correction=CorrectionTraining(rank=rank, steps=steps),
        false_positives=false_positives,
    )


def _made(
    model: ChatModel, found: SafetyMap, rows: RowSet, values: Path | None, layers: list[int] | None, untrained: bool,
    normal: PromptSet, settings: Training, template: Template, output: Path, seed: int, progress: ProgressCallback,
) -> SafetyLayers:  # fmt: skip
    from safetylayers.attach import from_map, train_layers
    from safetylayers.prompts import load_values

    if untrained:
        return from_map(model, found)
    return train_layers(
        model,
        found,
        rows,
        folder=output / WORK,
        values=load_values(values) if values else None,
        layers=layers,
        normal=normal,
        template=template,
        training=settings,
        seed=seed,
        progress=progress,
    )


def _adapter(
    model: ChatModel, made: SafetyLayers, rows: RowSet, output: Path, seed: int, progress: ProgressCallback
) -> ChatModel:
    """Write the adapter; return the model with it."""
    from safetylayers.attach import Training, export_adapter
    from safetylayers.attach.rows import Split, with_replies

    template = made.record.template
    learnt = with_replies(
        Split.of(rows).train, model, template=template, most=Training().replies, seed=seed, progress=progress
    )
    return export_adapter(model, made.record, learnt.rows, output / "adapter", seed=seed, progress=progress)


def _finish(
    model: ChatModel, made: SafetyLayers, others: list[ChatModel], output: Path, progress: ProgressCallback
) -> Evaluation:
    """Save, compare with the bare model, and report."""
    import shutil

    from safetylayers.attach import GuardedModel
    from safetylayers.attach.folder import save_with_model
    from safetylayers.attach.pages import layers_page
    from safetylayers.evaluate import evaluate
    from safetylayers.report import write_page

    save_with_model(model, made, output)
    comparison = evaluate([model, GuardedModel(model, made), *others], template=made.record.template, progress=progress)
    comparison.write(output / "evaluation.json")
    made.record.write(output / "result.json")
    write_page(layers_page(made.record, comparison), output / "report.html")
    shutil.rmtree(output / WORK, ignore_errors=True)  # hidden states and checkpoints of a run that is complete
    return comparison


def _revalidate(
    model: ChatModel, folder: Path, normal: PromptSet, false_positives: float, output: Path, as_json: bool,
    progress: ProgressCallback,
) -> None:  # fmt: skip
    """Say what became of layers on weights that have changed, and write them tied to these weights."""
    from safetylayers.attach import SafetyLayers
    from safetylayers.attach import revalidate as measure
    from safetylayers.attach.folder import save_with_model

    found, layers = measure(
        model, SafetyLayers.load(folder), normal=normal, false_positives=false_positives, progress=progress
    )
    if found.verdict != "retrain":
        save_with_model(model, layers, output)
    found.write(output / "result.json")
    if as_json:
        echo_json(found.model_dump_json(indent=2))
    else:
        typer.echo(f"{found.verdict}\t{found.reason}")
    if found.verdict == "retrain":
        console.print(f"Nothing was attached. Train anew: safetylayers attach {model.name} --map MAP -o OUTPUT")
    else:
        console.print(f"Model with its safety layers: {output}")


run_command.__name__ = "attach"
