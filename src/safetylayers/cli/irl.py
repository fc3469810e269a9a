"""`safetylayers align irl`: a reward and a policy from good behaviour alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from safetylayers.cli.align_policy import TINY, load_requests
from safetylayers.cli.shared import (
    ConfigOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelArgument,
    RowsArgument,
    SeedOption,
    console,
    echo_json,
    layers_read,
    need_align_extra,
    show_progress,
)

if TYPE_CHECKING:
    from safetylayers.align.irl import IrlResult

EXAMPLE = "Example: `safetylayers align irl tiny demonstrations.jsonl --map tiny-map -o irl`"


def run_command(
    model: ModelArgument,
    demonstrations: RowsArgument,
    map_folder: Annotated[Path | None, typer.Option("--map", help="Safety map, whose layers the reward reads.")] = None,
    layers: Annotated[str | None, typer.Option("--layers", help="Read layers A-B instead.")] = None,
    train: Annotated[
        bool, typer.Option("--train", help="Train a reward model in each round, instead of a Bayesian reward.")
    ] = False,
    rounds: Annotated[int, typer.Option("--rounds", help="Of one reward and one policy step.", min=1)] = 3,
    samples: Annotated[
        int, typer.Option("--samples", help="Replies that the policy sets against each demonstration.", min=1)
    ] = 2,
    method: Annotated[Literal["grpo", "rloo"], typer.Option("--method", help="Of the policy step.")] = "grpo",
    beta: Annotated[float, typer.Option("--beta", help="Cost of moving away.", min=TINY)] = 0.05,
    penalty: Annotated[
        float, typer.Option("--penalty", help="Deviations by which the reward is lowered.", min=0)
    ] = 1.0,
    replies: Annotated[int, typer.Option("--replies", help="Drawn to each prompt in a policy step.", min=2)] = 8,
    tokens: Annotated[int, typer.Option("--tokens", help="Longest reply.", min=1)] = 64,
    lora_rank: Annotated[int, typer.Option("--lora-rank", help="Of adapters; 0 trains all weights.", min=0)] = 16,
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="Of the policy.", min=TINY)] = 2e-5,
    steps: Annotated[int, typer.Option("--steps", help="Of the policy, in each round.", min=1)] = 100,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Prompts a step.", min=1)] = 8,
    watch: Annotated[str | None, typer.Option("--watch", help="Prompts to watch on.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for all rounds.")] = Path("irl"),
    seed: SeedOption = 0,
    dtype: DtypeOption = None,
    device: DeviceOption = None,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Find what somebody who replies like this is after: reward and policy in turns, from demonstrations alone."""
    del config
    need_align_extra()
    from safetylayers.align.irl import PolicyStep, RewardStep, learn_from_demonstrations
    from safetylayers.align.irl.pages import irl_page
    from safetylayers.models import ChatModel
    from safetylayers.prompts import load_examples
    from safetylayers.report import write_page

    shown = load_examples(demonstrations)
    with show_progress() as progress:
        source = ChatModel.load(model, dtype=dtype, device=device)
        read = () if train else tuple(layers_read(source, map_folder, layers))
        result = learn_from_demonstrations(
            source,
            shown,
            output=output,
            rounds=rounds,
            samples=samples,
            reward=RewardStep(kind="trained" if train else "bayesian", layers=read, lora_rank=lora_rank),
            policy=PolicyStep(
                method=method,
                beta=beta,
                penalty=penalty,
                replies=replies,
                steps=steps,
                batch_size=batch_size,
                learning_rate=learning_rate,
                lora_rank=lora_rank,
                max_new_tokens=tokens,
            ),
            watch=load_requests(watch) if watch else None,
            seed=seed,
            progress=progress,
        )
        page = write_page(irl_page(result), output / "report.html")
    if json:
        echo_json(result.model_dump_json(indent=2))
    else:
        typer.echo(_summary(result))
    console.print(f"Policy: {output / f'round-{rounds}' / 'policy'}   Report: {page}", soft_wrap=True, markup=False)


run_command.__name__ = "irl"


def _summary(result: IrlResult) -> str:
    return "\n".join(
        f"round {number}\t{each.pairs} pairs\ttold apart {each.told or 'not measured'}\tthe same {each.same}"
        for number, each in enumerate(result.rounds, start=1)
    )
