"""`safetylayers policy`: what the gateway does about what it finds."""

from __future__ import annotations

import asyncio
import json as jsonlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from safetylayers.cli.serving import (
    DATA,
    AsOption,
    DataOption,
    PasswordOption,
    StoreOption,
    logged_in,
    need_extra,
    open_site,
)
from safetylayers.cli.shared import DeviceOption, DtypeOption, JsonOption, console, echo_json

if TYPE_CHECKING:
    from safetylayers.oversee.policy.policy import Policy

EXAMPLE = 'Example: `safetylayers policy check "How do I bake bread?" --model tiny`'
group = typer.Typer(no_args_is_help=True, help="See, try and change the policy.")
FileOption = Annotated[Path | None, typer.Option("--policy", help="A policy file; by itself the default policy.")]


@group.command("check", epilog=EXAMPLE)
def check(
    prompt: Annotated[str | None, typer.Argument(help="What a caller would ask; none to check the file alone.")] = None,
    file: FileOption = None,
    model: Annotated[
        str | None, typer.Option("--model", help="With attached layers or --map, its monitors read the prompt too.")
    ] = None,
    safety_map: Annotated[Path | None, typer.Option("--map", help="Safety map whose probes watch.")] = None,
    dtype: DtypeOption = None,
    device: DeviceOption = None,
    json: JsonOption = False,
) -> None:
    """Say whether a policy is valid, what a prompt would meet under it, and why."""
    need_extra()
    from safetylayers.oversee.policy.enforced import enforce

    policy = _load(file)
    enforced = enforce(policy)
    if prompt is None:
        typer.echo(f"{policy.name}: valid, {len(policy.guards)} guards, hash {policy.hash[:16]}")
        return
    from safetylayers.oversee.gateway.explanation import explain

    engine = None
    if model is not None:
        from safetylayers.oversee.engine.load import load_engine

        engine = load_engine(model, map_folder=safety_map, dtype=dtype, device=device)
    found = asyncio.run(explain(enforced, prompt, engine=engine))
    if json:
        echo_json(found.model_dump_json(indent=2))
        return
    typer.echo(f"{found.action}: {found.because}")
    for line in found.steps:
        typer.echo(f"  {line}")


@group.command("show", epilog="Example: `safetylayers policy show > policy.yaml`")
def show(
    file: FileOption = None,
    in_force: Annotated[bool, typer.Option("--in-force", help="The one in force in --data.")] = False,
    data: DataOption = DATA,
    store: StoreOption = None,
) -> None:
    """Print a policy with every field and its default."""
    if in_force:
        with open_site(data, store) as site:
            typer.echo(site.shelf.newest().policy.as_yaml(), nl=False)
    else:
        need_extra()
        typer.echo(_load(file).as_yaml(), nl=False)


@group.command("guards", epilog="Example: `safetylayers policy guards`")
def guards(json: JsonOption = False) -> None:
    """List the kinds of guard, built in and plugged in."""
    need_extra()
    from safetylayers.oversee.guards.registry import known_kinds

    kinds = known_kinds()
    if json:
        echo_json(jsonlib.dumps(sorted(kinds)))
        return
    for kind in sorted(kinds):
        typer.echo(kind)


@group.command("propose", epilog="Example: `safetylayers policy propose policy.yaml --as NAME --reason 'stricter'`")
def propose(
    file: Annotated[Path, typer.Argument(help="The policy file.")],
    name: AsOption,
    reason: Annotated[str, typer.Option("--reason", "-r", help="For the second person, and for the log.")],
    password_file: PasswordOption = None,
    data: DataOption = DATA,
    store: StoreOption = None,
) -> None:
    """Propose a policy; another person approves it."""
    with open_site(data, store) as site:
        person = logged_in(site, name, password_file)
        found = site.shelf.propose(site.proposals, _load(file), reason=reason, by=person)
    console.print(f"Another person approves it with: safetylayers policy approve {found.id} --as NAME")
    typer.echo(found.id)


@group.command("proposals", epilog="Example: `safetylayers policy proposals`")
def proposals(data: DataOption = DATA, store: StoreOption = None) -> None:
    """Show what waits for a second person, and what it would change."""
    with open_site(data, store) as site:
        from safetylayers.oversee.identity.proposals import Kind

        for proposal in site.proposals.open_ones():
            if proposal.kind is Kind.POLICY:
                typer.echo(f"{proposal.id}\t{proposal.reason}\n{proposal.content['difference']}")


@group.command("approve", epilog="Example: `safetylayers policy approve 3f0c --as NAME`")
def approve(
    proposal: Annotated[str, typer.Argument(help="The proposal's id.")],
    name: AsOption,
    password_file: PasswordOption = None,
    data: DataOption = DATA,
    store: StoreOption = None,
) -> None:
    """Let another person's policy pass; every replica takes it within seconds."""
    with open_site(data, store) as site:
        person = logged_in(site, name, password_file)
        site.proposals.approve(proposal, site.shelf.apply, by=person)
        newest = site.shelf.newest()
    typer.echo(f"in force: {newest.policy.name}, number {newest.number}")


def _load(file: Path | None) -> Policy:
    need_extra()
    from safetylayers.oversee.policy.policy import default_policy, load_policy

    return load_policy(file) if file else default_policy()
