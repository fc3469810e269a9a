"""`safetylayers align policy`: from a reward to a model that follows it."""

from __future__ import annotations

from collections.abc import Callable
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
    console,
    echo_json,
    need_align_extra,
    show_progress,
)
from safetylayers.errors import UsageError

if TYPE_CHECKING:
    from safetylayers.align.policy import PolicyResult
    from safetylayers.align.policy.data import PolicyData
    from safetylayers.evaluate import Evaluation
    from safetylayers.locate import MapChange, SafetyMap
    from safetylayers.models import ChatModel
    from safetylayers.prompts import Values
    from safetylayers.records import ProgressCallback

EXAMPLE = "Example: `safetylayers align policy tiny pairs.jsonl --method dpo --reward reward -o policy`"
DATA_HELP = "File or hub id. sft: rows with prompt and response; dpo: pairs; grpo, rloo: anything with prompts."
TINY = 1e-12
"""For options that have to be above 0."""
RewardsOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--reward", help="What `align reward` wrote; repeatable where it trained models: they count together."
    ),
]


def run_command(
    model: ModelArgument,
    data: Annotated[str, typer.Argument(help=DATA_HELP)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the policy.")] = Path("policy"),
    method: Annotated[Literal["sft", "dpo", "grpo", "rloo"], typer.Option("--method", help="How.")] = "dpo",
    reward: RewardsOption = None,
    values: Annotated[
        Path | None, typer.Option("--values", help="Values file, by which the reward is weighed.")
    ] = None,
    reader: Annotated[str | None, typer.Option("--reader", help="Model that a Bayesian reward reads.")] = None,
    gold: Annotated[
        Path | None, typer.Option("--gold", help="Reward that is not optimised: shows when to stop.")
    ] = None,
    watch: Annotated[
        str | None, typer.Option("--watch", help="Prompts to watch on; by itself built-in ones. 'none' for none.")
    ] = None,
    map_folder: Annotated[Path | None, typer.Option("--map", help="The model's safety map.")] = None,
    hold: Annotated[
        Literal["nothing", "map", "others"],
        typer.Option("--hold", help="Hold still: nothing, the map's layers, or all others."),
    ] = "nothing",
    beta: Annotated[float, typer.Option("--beta", help="Cost of moving away from the model.", min=0)] = 0.05,
    penalty: Annotated[
        float, typer.Option("--penalty", help="Deviations by which the reward is lowered.", min=0)
    ] = 1.0,
    replies: Annotated[int, typer.Option("--replies", help="grpo, rloo: drawn to each prompt.", min=2)] = 8,
    tokens: Annotated[int, typer.Option("--tokens", help="Longest reply.", min=1)] = 64,
    lora_rank: Annotated[int, typer.Option("--lora-rank", help="Of adapters; 0 trains all weights.", min=0)] = 16,
    learning_rate: Annotated[float, typer.Option("--learning-rate", min=TINY)] = 2e-5,
    steps: Annotated[int, typer.Option("--steps", min=1)] = 200,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Rows, or prompts, a step.", min=1)] = 8,
    watch_every: Annotated[int, typer.Option("--watch-every", help="Steps between looks.", min=1)] = 25,
    patience: Annotated[
        int, typer.Option("--patience", help="Looks that may be worse by --gold before it stops; 0: all.", min=0)
    ] = 4,
    max_kl: Annotated[
        float | None, typer.Option("--max-kl", help="Nats a reply, beyond which it stops.", min=TINY)
    ] = None,
    measure: Annotated[bool, typer.Option("--measure/--no-measure", help="Safety before and after.")] = True,
    relocate: Annotated[
        bool, typer.Option("--relocate/--no-relocate", help="Locate the safety layers again, and compare.")
    ] = True,
    seed: SeedOption = 0,
    dtype: DtypeOption = None,
    device: DeviceOption = None,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Train a model to follow a reward, held near what it was; watch it, and say what became of its safety."""
    del config
    need_align_extra()
    _refuse_unused(reward=reward, gold=gold, reader=reader, values=values)
    from safetylayers.align.policy import align_policy
    from safetylayers.align.scoring import load_scorer
    from safetylayers.align.trl_settings import is_first
    from safetylayers.locate import SafetyMap
    from safetylayers.models import ChatModel
    from safetylayers.prompts import load_values

    with show_progress() as progress:
        source = ChatModel.load(model, dtype=dtype, device=device)
        reads = ChatModel.load(reader, dtype=dtype, device=device) if reader else None
        weighed = load_values(values) if values else None
        found = SafetyMap.load(map_folder) if map_folder else None
        result = align_policy(
            source,
            load_data(data, method),
            output=output,
            method=method,
            reward=load_scorer(reward, policy=source, reader=reads, values=weighed) if reward else None,
            gold=load_scorer([gold], policy=source, reader=reads, values=weighed) if gold else None,
            watch=watched(watch),
            map=found,
            hold=hold,
            beta=beta,
            penalty=penalty,
            replies=replies,
            max_new_tokens=tokens,
            lora_rank=lora_rank,
            learning_rate=learning_rate,
            steps=steps,
            batch_size=batch_size,
            watch_every=watch_every,
            patience=patience,
            max_kl=max_kl,
            seed=seed,
            progress=progress,
        )
        if not is_first():
            return
        made = ChatModel.load(output, dtype=dtype, device=device)
        change = _relocated(source, made, found, output, seed, progress) if relocate else None
        evaluation = _measured(source, made, output, progress) if measure else None
        page = _report(output, result, change, evaluation, weighed, reward or [])
    if json:
        echo_json(result.model_dump_json(indent=2))
    else:
        typer.echo(_summary(result, change))
    console.print(f"Policy: {output}   Report: {page}", soft_wrap=True, markup=False)


run_command.__name__ = "policy"


def _refuse_unused(*, reward: list[Path] | None, gold: Path | None, reader: str | None, values: Path | None) -> None:
    for given, name in ((reader, "--reader"), (values, "--values")):
        if given and not (reward or gold):
            raise UsageError(f"{name} is about a reward, and none is given.", mend="Give one with --reward.")


def load_data(source: str, method: str) -> PolicyData:
    """Load what a method learns from; sft takes the chosen replies where there are pairs."""
    from safetylayers.prompts import load_examples, load_pairs

    if method == "dpo":
        return load_pairs(source)
    return load_requests(source) if method in ("grpo", "rloo") else _load(source, load_examples)


def load_requests(source: str) -> PolicyData:
    """Load whole conversations where rows hold some, and single requests elsewhere."""
    from safetylayers.prompts import load_prompts

    return _load(source, load_prompts)


def _load(source: str, otherwise: Callable[[str], PolicyData]) -> PolicyData:
    from safetylayers.prompts import BUILTIN_NAMES, load_examples, load_pairs
    from safetylayers.prompts.table import read_rows

    if source.partition("/")[0] in BUILTIN_NAMES and not Path(source).exists():
        return otherwise(source)
    fields = next(iter(read_rows(source))).fields
    if "chosen" in fields:
        return load_pairs(source)
    turns = fields.get("messages")
    replied = isinstance(turns, list) and turns and isinstance(turns[-1], dict) and turns[-1].get("role") == "assistant"
    return load_examples(source) if replied else otherwise(source)


def watched(source: str | None) -> PolicyData | None:
    """Load the prompts to watch on; by themselves some built-in ones of either kind, none where several train."""
    from safetylayers.align.trl_settings import processes
    from safetylayers.prompts import PromptSet, load_prompts

    if source == "none" or (source is None and processes() > 1):
        return None
    if source is not None:
        return load_requests(source)
    kinds = [load_prompts(f"{kind}/calibration", limit=40) for kind in ("malicious", "normal")]
    return PromptSet("built-in calibration prompts", tuple(prompt for kind in kinds for prompt in kind))


def _relocated(
    source: ChatModel,
    made: ChatModel,
    found: SafetyMap | None,
    output: Path,
    seed: int,
    progress: ProgressCallback,
) -> MapChange:
    from safetylayers.locate import compare_maps, locate

    before = found or locate(source, seed=seed, progress=progress)
    # Only what was looked for alike can be compared.
    record = before.record
    mode: Literal["default", "faithful"] = "faithful" if record.mode == "faithful" else "default"
    after = locate(made, mode=mode, template=record.template, seed=seed, progress=progress)
    after.save(output / "map")
    return compare_maps(before.record, after.record)


def _measured(source: ChatModel, made: ChatModel, output: Path, progress: ProgressCallback) -> Evaluation:
    from safetylayers.evaluate import evaluate

    evaluation = evaluate([source, made], progress=progress)
    evaluation.write(output / "evaluation.json")
    return evaluation


def _report(
    output: Path,
    result: PolicyResult,
    change: MapChange | None,
    evaluation: Evaluation | None,
    values: Values | None,
    rewards: list[Path],
) -> Path:
    from safetylayers.align.pages import sections_of
    from safetylayers.align.policy.pages import policy_page, write_policy_card
    from safetylayers.report import write_page

    if change:
        change.write(output / "map-change.json")
    write_policy_card(output, result, change=change, evaluation=evaluation)
    known = [section for folder in rewards for section in sections_of(folder)]
    page = policy_page(result, change=change, evaluation=evaluation, values=values, reward=known)
    return write_page(page, output / "report.html")


def _summary(result: PolicyResult, change: MapChange | None) -> str:
    lines = [f"step\t{result.kept_step} of {result.steps}\t{result.stopped}".rstrip()]
    if result.looks:
        first, last = result.looks[0], next(look for look in result.looks if look.step == result.kept_step)
        named = (("reward", first.proxy, last.proxy), ("gold", first.gold, last.gold))
        lines += [f"{name}\t{a:.3f} -> {b:.3f}" for name, a, b in named if a is not None and b is not None]
        lines += [f"KL\t{last.kl:.2f} nats a reply", f"refused\t{first.refused:.3f} -> {last.refused:.3f}"]
    return "\n".join([*lines, *([change.sentence] if change else [])])
