"""`safetylayers align audit`: what a model seems to optimise beside its base."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from safetylayers.cli.shared import (
    ConfigOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelArgument,
    SeedOption,
    TokensOption,
    console,
    echo_json,
    show_progress,
)

if TYPE_CHECKING:
    from safetylayers.align.audit import ValueAudit
    from safetylayers.align.reward import ValueReward
    from safetylayers.models import ChatModel
    from safetylayers.prompts import PromptSet

EXAMPLE = "Example: `safetylayers align audit tiny --base tiny-base --reward reward -o audit`"
Method = Literal["preference", "log-ratio", "max-margin"]
"""As in `align.audit`, which takes a second to import."""


def run_command(
    model: ModelArgument,
    base: Annotated[str, typer.Option("--base", help="What the model was made of; with the same tokens.")],
    reward: Annotated[Path, typer.Option("--reward", help="Folder of `align reward`: scores replies in its values.")],
    prompts: Annotated[
        str | None, typer.Argument(help="File, hub id or built-in set; by itself malicious/test and normal/test.")
    ] = None,
    reader: Annotated[
        str | None, typer.Option("--reader", help="The model that the reward was learned on; by itself it is found.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the record and its report.")] = Path(
        "audit"
    ),
    replies: Annotated[int, typer.Option("--replies", help="Of each model to each prompt.", min=1)] = 4,
    limit: Annotated[
        int | None, typer.Option("--prompts-limit", help="At most so many prompts of each set.", min=1)
    ] = None,
    method: Annotated[
        Method, typer.Option("--method", help="preference (Bayesian), log-ratio (maximum entropy) or max-margin.")
    ] = "preference",
    tokens: TokensOption = 48,
    seed: SeedOption = 0,
    dtype: DtypeOption = None,
    device: DeviceOption = None,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Infer which values a model weighs from its replies beside its base's, how sure that is, and what stays open."""
    del config
    from safetylayers.align.audit import RewardScorer, audit
    from safetylayers.align.audit.pages import audit_page
    from safetylayers.align.reward import ValueReward
    from safetylayers.models import ChatModel
    from safetylayers.report import write_page

    learned = ValueReward.load(reward)
    asked = _prompts(prompts, limit)
    with show_progress() as progress:
        audited, origin = (ChatModel.load(source, dtype=dtype, device=device) for source in (model, base))
        read_by = ChatModel.load(reader, dtype=dtype, device=device) if reader else _reader(learned, audited, origin)
        learned.check(read_by)  # before a long wait
        record = audit(
            audited, origin, asked, RewardScorer(learned, read_by, seed=seed), method=method, replies=replies,
            max_new_tokens=tokens, seed=seed, progress=progress,
        )  # fmt: skip
        record.write(output / "result.json")
        page = write_page(audit_page(record), output / "report.html")
    if json:
        echo_json(record.model_dump_json(indent=2))
    else:
        _print(record)
    console.print(f"Record: {output / 'result.json'}   Report: {page}", soft_wrap=True, markup=False)


def _prompts(source: str | None, limit: int | None) -> PromptSet:
    from safetylayers.prompts import load_prompts

    if source:
        return load_prompts(source, limit=limit)
    return load_prompts("malicious/test", limit=limit) + load_prompts("normal/test", limit=limit)


def _reader(reward: ValueReward, *models: ChatModel) -> ChatModel:
    """Return the one of the models that the reward reads; where none is, load it by its name."""
    from safetylayers.models import ChatModel

    wanted = reward.record.provenance
    for model in models:
        if model.weights_hash == wanted.model_hash:
            return model
    return ChatModel.load(wanted.model)


def _print(record: ValueAudit) -> None:
    for name, known in record.weights.items():
        said = "undecided" if name in record.undecided else "decided"
        interval = f"{known.mean:.2f} [{known.low:.2f}, {known.high:.2f}]"
        typer.echo(f"{name}\t{interval}\tabove 0: {100 * known.above:.1f} %\t{said}")
    told = record.held_out
    typer.echo(f"held-out\t{100 * told.mean:.1f} % [{100 * told.low:.1f}, {100 * told.high:.1f}]")
    typer.echo(f"differs\t{'yes' if record.differs else 'no: do not read the weights'}")


run_command.__name__ = "audit"
