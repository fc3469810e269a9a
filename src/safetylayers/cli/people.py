"""`safetylayers people`: who may log in, and as what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from safetylayers.cli.serving import DATA, DataOption, PasswordOption, StoreOption, open_site, read_secret
from safetylayers.cli.shared import console
from safetylayers.errors import AccessError

if TYPE_CHECKING:
    from safetylayers.oversee.gateway.site import Site
    from safetylayers.oversee.identity.people import Person

EXAMPLE = "Example: `safetylayers people add NAME --role operator --role reviewer`"
group = typer.Typer(no_args_is_help=True, help="Add people, change what they may do, lock them out.")
RoleOption = Annotated[
    list[str], typer.Option("--role", help="Repeatable: caller, reviewer, operator, auditor, admin.")
]
NameArgument = Annotated[str, typer.Argument(help="The person's name.")]


@group.command("add", epilog=EXAMPLE)
def add(
    name: NameArgument,
    roles: RoleOption,
    password_file: PasswordOption = None,
    data: DataOption = DATA,
    store: StoreOption = None,
) -> None:
    """Add a person; a password of at least 12 characters is asked for."""
    with open_site(data, store) as site:
        from safetylayers.oversee.identity.principal import MACHINE

        password = read_secret(password_file, prompt=f"Password for {name}: ", twice=True)
        person = site.people.create(name, password, roles, by=MACHINE)
    console.print(f"{person.name} may log in as {', '.join(sorted(person.roles))}.")


@group.command("list", epilog="Example: `safetylayers people list`")
def show(data: DataOption = DATA, store: StoreOption = None) -> None:
    """List people with their roles."""
    with open_site(data, store) as site:
        for person in site.people.everybody():
            typer.echo(f"{person.name}\t{', '.join(sorted(person.roles))}\t{'locked out' if person.disabled else ''}")


@group.command("roles", epilog="Example: `safetylayers people roles NAME --role auditor`")
def set_roles(name: NameArgument, roles: RoleOption, data: DataOption = DATA, store: StoreOption = None) -> None:
    """Give a person other roles; sessions follow at once, keys within 5 seconds."""
    with open_site(data, store) as site:
        from safetylayers.oversee.identity.principal import MACHINE

        site.people.set_roles(find_person(site, name).id, roles, by=MACHINE)


@group.command("disable", epilog="Example: `safetylayers people disable NAME`")
def disable(name: NameArgument, data: DataOption = DATA, store: StoreOption = None) -> None:
    """Lock a person out: sessions end, keys stop working within 5 seconds."""
    with open_site(data, store) as site:
        from safetylayers.oversee.identity.principal import MACHINE

        site.people.disable(find_person(site, name).id, by=MACHINE)


@group.command("password", epilog="Example: `safetylayers people password NAME`")
def password(
    name: NameArgument, password_file: PasswordOption = None, data: DataOption = DATA, store: StoreOption = None
) -> None:
    """Give a person a new password; all of that person's sessions end."""
    with open_site(data, store) as site:
        from safetylayers.oversee.identity.principal import MACHINE

        person = find_person(site, name)
        new = read_secret(password_file, prompt=f"New password for {name}: ", twice=True)
        site.people.reset_password(person.id, new, by=MACHINE)


def find_person(site: Site, name: str) -> Person:
    """Return the person of this name. Raises AccessError where there is none."""
    for person in site.people.everybody():
        if person.name == name.strip().casefold():
            return person
    raise AccessError(f"{name}: nobody has this name.", mend="See: safetylayers people list")
