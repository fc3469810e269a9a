"""`safetylayers keys`: what programs show in place of a password."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from safetylayers.cli.people import find_person
from safetylayers.cli.serving import DATA, DataOption, StoreOption, open_site
from safetylayers.cli.shared import console

EXAMPLE = "Example: `safetylayers keys create notebook --owner NAME > notebook.key`"
group = typer.Typer(no_args_is_help=True, help="Make, rotate and revoke programs' keys.")
KeyArgument = Annotated[str, typer.Argument(help="The key's id.")]
DaysOption = Annotated[int, typer.Option("--days", help="How long it is valid.", min=1, max=36_500)]


@group.command("create", epilog=EXAMPLE)
def create(
    name: Annotated[str, typer.Argument(help="What it is for.")],
    owner: Annotated[str, typer.Option("--owner", help="Name of the person who answers for it.")],
    roles: Annotated[
        list[str] | None, typer.Option("--role", help="Repeatable, among the owner's; by itself caller.")
    ] = None,
    models: Annotated[
        list[str] | None, typer.Option("--model", help="Repeatable: a model that it may ask; by itself all.")
    ] = None,
    pace: Annotated[
        int | None, typer.Option("--per-minute", help="Requests a minute at each replica; by itself no limit.")
    ] = None,
    days: DaysOption = 90,
    data: DataOption = DATA,
    store: StoreOption = None,
) -> None:
    """Make a key. It is printed once, and kept nowhere."""
    with open_site(data, store) as site:
        from safetylayers.oversee.identity.principal import MACHINE

        made = site.keys.create(
            name,
            owner=find_person(site, owner).id,
            by=MACHINE,
            roles=roles or ["caller"],
            models=models or None,
            requests_per_minute=pace,
            life=timedelta(days=days),
        )
    console.print(f"Key {made.key.id}, valid until {made.key.expires:%Y-%m-%d}. It is not shown again.")
    typer.echo(made.token)


@group.command("list", epilog="Example: `safetylayers keys list`")
def show(data: DataOption = DATA, store: StoreOption = None) -> None:
    """List keys, without their secrets."""
    with open_site(data, store) as site:
        names = {person.id: person.name for person in site.people.everybody()}
        for key in site.keys.all():
            state = "revoked" if key.revoked else f"until {key.expires:%Y-%m-%d}"
            used = f"{key.used:%Y-%m-%d %H h}" if key.used else "never used"
            typer.echo("\t".join((key.id, key.name, names[key.owner], ", ".join(sorted(key.roles)), state, used)))


@group.command("rotate", epilog="Example: `safetylayers keys rotate 3f0c > notebook.key`")
def rotate(
    key: KeyArgument,
    hours: Annotated[
        int, typer.Option("--grace-hours", help="How long the old secret still works.", min=0, max=876_000)
    ] = 24,
    days: DaysOption = 90,
    data: DataOption = DATA,
    store: StoreOption = None,
) -> None:
    """Give a key a new secret, which is printed once."""
    with open_site(data, store) as site:
        from safetylayers.oversee.identity.principal import MACHINE

        made = site.keys.rotate(key, by=MACHINE, grace=timedelta(hours=hours), life=timedelta(days=days))
    typer.echo(made.token)


@group.command("revoke", epilog="Example: `safetylayers keys revoke 3f0c`")
def revoke(key: KeyArgument, data: DataOption = DATA, store: StoreOption = None) -> None:
    """End a key, its old secret too."""
    with open_site(data, store) as site:
        from safetylayers.oversee.identity.principal import MACHINE

        site.keys.revoke(key, by=MACHINE)
