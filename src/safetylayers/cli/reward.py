"""`safetylayers align reward`: a reward from choices, or a reward model that is trained on them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from safetylayers.cli.learning import Learning, learn
from safetylayers.cli.shared import (
    ConfigOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelArgument,
    SeedOption,
    console,
    echo_json,
    show_progress,
)

if TYPE_CHECKING:
    from safetylayers.align.accuracy import Accuracy
    from safetylayers.align.asked import Asked
    from safetylayers.align.reward_record import RewardRecord, RewardTest
    from safetylayers.align.trained import TrainedRecord

EXAMPLE = "Example: `safetylayers align reward tiny pairs.jsonl --map tiny-map -o reward`"


def run_command(
    model: ModelArgument,
    pairs: Annotated[str, typer.Argument(help="Rows with prompt, chosen and rejected: file or hub id.")],
    map_folder: Annotated[Path | None, typer.Option("--map", help="Safety map, whose layers the reward reads.")] = None,
    layers: Annotated[str | None, typer.Option("--layers", help="Read layers A-B instead.")] = None,
    pool: Annotated[
        Literal["mean", "last"] | None,
        typer.Option("--pool", help="Over a reply's tokens: their mean, or the last alone. [mean]"),
    ] = None,
    people: Annotated[
        bool, typer.Option("--people", help="Weigh who chose ('by') by how far the others' choices bear them out.")
    ] = False,
    test: Annotated[
        list[str] | None, typer.Option("--test", help="Repeatable: other choices, to test on; never learned from.")
    ] = None,
    values: Annotated[
        Path | None, typer.Option("--values", help="Values file: what it asks for, against what is learned.")
    ] = None,
    train: Annotated[
        Literal["lora", "all"] | None,
        typer.Option("--train", help="Train the model's own weights instead: adapters, or all. Reads no layers."),
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="--train: of training. [200]", min=1)] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", help="--train: the highest. [2e-4]", min=0)
    ] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="--train: pairs a step. [16]", min=1)] = None,
    lora_rank: Annotated[int | None, typer.Option("--lora-rank", help="--train lora: of adapters. [16]", min=1)] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="At most so many pairs.", min=1)] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the reward and its report.")] = Path(
        "reward"
    ),
    seed: SeedOption = 0,
    dtype: DtypeOption = None,
    device: DeviceOption = None,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Learn what choices value, and how sure that is: a Bayesian reward on the model's hidden states, a value each."""
    del config
    asked_for = Learning(
        model=model, pairs=pairs, map_folder=map_folder, layers=layers, pool=pool, people=people,
        tests=tuple(test or ()), values=values, train=train, steps=steps, learning_rate=learning_rate,
        batch_size=batch_size, lora_rank=lora_rank, limit=limit, output=output, seed=seed, dtype=dtype, device=device,
    )  # fmt: skip
    with show_progress() as progress:
        record, page = learn(asked_for, progress)
    if json:
        echo_json(record.model_dump_json(indent=2))
    else:
        _show(record)
    console.print(f"Reward: {output}   Report: {page}", soft_wrap=True, markup=False)


run_command.__name__ = "reward"


def _show(record: RewardRecord | TrainedRecord) -> None:
    from safetylayers.align.reward_record import RewardRecord

    if isinstance(record, RewardRecord):
        for name, known in record.values.items():
            _line(name, f"{known.choices} choices", known)
        _show_people(record)
    _show_tests(record.tests)
    if record.asked:
        _show_asked(record.asked)


def _line(name: str, what: str, known: Accuracy) -> None:
    others = "".join(f"\t{base} {rate}" for base, rate in known.baselines.items())
    typer.echo(f"{name}\t{what}\t{known.accuracy}{others}")
    for groups in (known.categories, known.sources):
        for group, rate in groups.items():
            typer.echo(f"{name}: {group}\t{rate.total} choices\t{rate}")


def _show_people(record: RewardRecord) -> None:
    if record.people < 2:
        return
    for name, known in record.values.items():
        for who, each in known.choosers.items():
            apart = "\tapart" if each.apart else ""
            low, high = each.interval
            count = f"{each.choices} choices\tcounts {each.reliability:.2f} [{low:.2f}, {high:.2f}]"
            typer.echo(f"{name}: by {who}\t{count}{apart}")
    if not any(known.choosers for known in record.values.values()):
        typer.echo(f"people\t{record.people}\tall count alike; --people weighs them")


def _show_tests(tests: Mapping[str, RewardTest]) -> None:
    from safetylayers.align.charts import left_out

    for name, test in tests.items():
        _line(f"test {name}", f"calibration error {test.calibration:.3f}", test)
        console.print(f"{name}: {left_out(test)}", soft_wrap=True, markup=False)


def _show_asked(asked: Asked) -> None:
    for name, value in asked.values.items():
        typer.echo(f"asked {name}\tweight {value.weight:g}\t{value.choices} choices")
    if asked.lacking:
        typer.echo(f"total\tnone: no choices are about {', '.join(asked.lacking)}")
    else:
        typer.echo(f"total\t{asked.total}")
    if asked.beside:
        typer.echo(f"learned, not asked\t{', '.join(asked.beside)}")
