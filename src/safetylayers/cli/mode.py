"""`safetylayers mode`: run, restricted, stopped; and back, which takes two people."""

from __future__ import annotations

from typing import Annotated

import typer

from safetylayers.cli.serving import (
    DATA,
    AsOption,
    DataOption,
    PasswordOption,
    StoreOption,
    logged_in,
    open_site,
    signed_reason,
)
from safetylayers.cli.shared import console

EXAMPLE = "Example: `safetylayers mode propose run --as NAME --reason 'the cause is mended'`"
group = typer.Typer(no_args_is_help=True, help="See the mode, make it safer alone, or less safe with a second person.")


@group.command("show", epilog="Example: `safetylayers mode show`")
def show_mode(data: DataOption = DATA, store: StoreOption = None) -> None:
    """Show the mode, every replica, and what waits for a second person."""
    with open_site(data, store) as site:
        from safetylayers.oversee.identity.proposals import Kind
        from safetylayers.oversee.modes.heartbeat import list_replicas
        from safetylayers.oversee.modes.mode import read_mode

        with site.database.read() as connection:
            state, replicas = read_mode(connection), list_replicas(connection)
        typer.echo(f"{state.mode}\t{state.reason}\tby {state.by}, {state.since:%Y-%m-%d %H:%M:%S} UTC")
        for replica in replicas:
            life = "alive" if replica.alive else "gone"
            typer.echo(f"replica {replica.name}\t{life}\t{replica.running} running")
        for proposal in site.proposals.open_ones():
            if proposal.kind is Kind.MODE:
                typer.echo(f"proposed {proposal.id}\t{proposal.content['mode']}\t{proposal.reason}")


@group.command("restrict", epilog="Example: `safetylayers mode restrict --reason 'odd replies since noon'`")
def restrict(
    reason: Annotated[str, typer.Option("--reason", "-r", help="For the log.")],
    data: DataOption = DATA,
    store: StoreOption = None,
) -> None:
    """Let every reply wait for a person, or block it, as the policy says for restricted times."""
    with open_site(data, store) as site:
        from safetylayers.oversee.identity.principal import MACHINE
        from safetylayers.oversee.modes.change import set_mode
        from safetylayers.oversee.modes.mode import Mode

        set_mode(site.database, site.log, Mode.RESTRICTED, by=MACHINE, reason=signed_reason(reason))
    typer.echo("restricted")


@group.command("propose", epilog=EXAMPLE)
def propose(
    mode: Annotated[str, typer.Argument(help="run or restricted.")],
    name: AsOption,
    reason: Annotated[str, typer.Option("--reason", "-r", help="For the second person, and for the log.")],
    password_file: PasswordOption = None,
    data: DataOption = DATA,
    store: StoreOption = None,
) -> None:
    """Propose a less safe mode; another person approves it."""
    with open_site(data, store) as site:
        from safetylayers.errors import UsageError
        from safetylayers.oversee.modes.change import propose_mode
        from safetylayers.oversee.modes.mode import Mode

        if mode not in list(Mode):
            raise UsageError(f"{mode}: no such mode.", mend="Write run or restricted.")
        person = logged_in(site, name, password_file)
        found = propose_mode(site.proposals, site.database, Mode(mode), by=person, reason=reason)
    console.print(f"Another person approves it with: safetylayers mode approve {found.id} --as NAME")
    typer.echo(found.id)


@group.command("approve", epilog="Example: `safetylayers mode approve 3f0c --as NAME`")
def approve(
    proposal: Annotated[str, typer.Argument(help="The proposal's id.")],
    name: AsOption,
    password_file: PasswordOption = None,
    data: DataOption = DATA,
    store: StoreOption = None,
) -> None:
    """Let another person's proposal pass. It takes effect at once, on every replica."""
    with open_site(data, store) as site:
        from safetylayers.oversee.modes.change import approve_mode

        person = logged_in(site, name, password_file)
        approved = approve_mode(site.proposals, site.log, proposal, by=person)
    typer.echo(approved.content["mode"])
