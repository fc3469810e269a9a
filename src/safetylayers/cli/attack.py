"""`safetylayers attack`: what one's own model withstands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from safetylayers.cli.shared import (
    AimOption,
    ConfigOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    JudgesOption,
    SeedOption,
    TargetArgument,
    TemplateOption,
    TokensOption,
    console,
    echo_json,
    load_with_layers,
    show_progress,
)

if TYPE_CHECKING:
    from safetylayers.models import ChatModel
    from safetylayers.prompts import ExampleSet, Template
    from safetylayers.targets import Target

EXAMPLE = "Example: `safetylayers attack tiny --with prefill,templates,embedding -o attacked`"


def run_command(
    model: TargetArgument,
    prompts: Annotated[str, typer.Argument(help="Requests that should be refused.")] = "malicious/test",
    attacks: Annotated[
        str, typer.Option("--with", help="Attacks, with settings where wanted: prefill:tokens=10,templates.")
    ] = "prefill,templates",
    budget: Annotated[
        Literal["quick", "standard", "strong"], typer.Option("--budget", help="How much each attack may spend.")
    ] = "standard",
    safety_map: AimOption = None,
    through: Annotated[
        str | None,
        typer.Option(
            "--through",
            help="Behind a perturbation: smoothllm, perplexity, erase-and-check, retokenise, paraphrase:URL#MODEL.",
        ),
    ] = None,
    attacker: Annotated[
        str | None, typer.Option("--attacker", help="URL#MODEL of the model that writes prompts for pair and tap.")
    ] = None,
    rows: Annotated[str | None, typer.Option("--rows", help="Rows to fine-tune on, for finetune.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="At most so many prompts.", min=1)] = None,
    judges: JudgesOption = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the record and its report.")] = Path(
        "attacked"
    ),
    tokens: TokensOption = 48,
    template: TemplateOption = "chat",
    seed: SeedOption = 0,
    dtype: DtypeOption = None,
    device: DeviceOption = None,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Attack your own model, or a server in front of it, and count how often it gives in."""
    del config
    from safetylayers.attack import run_attack
    from safetylayers.attack.naming import Tools, parse_attacks
    from safetylayers.attack.pages import attack_page
    from safetylayers.attack.record import AttackReport
    from safetylayers.evaluate.panel import make_judges
    from safetylayers.harden.perturb import through as behind
    from safetylayers.locate import SafetyMap
    from safetylayers.prompts import load_examples, load_prompts
    from safetylayers.report import write_page
    from safetylayers.targets import ChatClient

    asked = load_prompts(prompts, limit=limit)
    panel = make_judges(judges) if judges else None
    found = SafetyMap.load(safety_map) if safety_map else None
    writer = ChatClient.named(attacker) if attacker else None
    examples = load_examples(rows) if rows else None
    chosen = parse_attacks(attacks, budget=budget, tools=Tools(found, writer, tuned_copy, examples))
    results = []
    with show_progress() as progress:
        target = open_target(model, tokens=tokens, template=template, dtype=dtype, device=device)
        if through:
            target = behind(through, target, map=found, seed=seed, progress=progress)
        for title, attack in chosen.items():
            results.append(
                run_attack(
                    attack,
                    target,
                    asked,
                    judges=panel,
                    seed=seed,
                    title=title,
                    keep=output / "cases",
                    progress=progress,
                )
            )
            if not json:
                rates = "\t".join(f"{judge} {results[-1].success_rate(judge)}" for judge in results[-1].judges)
                typer.echo(f"{title}\t{rates}")
        report = AttackReport(results=tuple(results))
        report.write(output / "result.json")
        page = write_page(attack_page(report), output / "report.html")
    if json:
        echo_json(report.model_dump_json(indent=2))
    console.print(f"Record: {output / 'result.json'}   Report: {page}")


def tuned_copy(
    model: ChatModel, examples: ExampleSet, *, learning_rate: float, steps: int, frozen_layers: tuple[int, ...]
) -> ChatModel:
    """Fine-tune a copy of a model, for an attack that does so."""
    import tempfile

    from safetylayers.finetune import finetune
    from safetylayers.models import ChatModel

    method = f"freeze:{frozen_layers[0]}-{frozen_layers[-1]}" if frozen_layers else "full"
    with tempfile.TemporaryDirectory() as folder:
        finetune(
            model,
            examples,
            output=Path(folder) / "tuned",
            method=method,
            learning_rate=learning_rate,
            max_steps=steps,
            save_every=steps + 1,
        )
        return ChatModel.load(Path(folder) / "tuned", dtype=model.dtype, device=model.device.type)


def open_target(model: str, *, tokens: int, template: Template, dtype: str | None, device: str | None) -> Target:
    """Return what a command line names: a model here, with its safety layers on, or a server."""
    from safetylayers.targets import ChatClient, ModelTarget, UrlTarget

    if model.startswith(("http://", "https://")):
        return UrlTarget(ChatClient.named(model), max_new_tokens=tokens)
    return ModelTarget(load_with_layers(model, dtype=dtype, device=device), template, tokens)


run_command.__name__ = "attack"
