"""`safetylayers audit`: the log that outside tools can verify."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from safetylayers.cli.serving import DATA, DataOption, StoreOption, local_user, open_log, open_site
from safetylayers.cli.shared import JsonOption, console, echo_json
from safetylayers.errors import AuditError, UsageError

if TYPE_CHECKING:
    from safetylayers.oversee.gateway.forgetting import Forgotten

EXAMPLE = "Example: `safetylayers audit verify --kept /elsewhere/witness.txt`"
group = typer.Typer(no_args_is_help=True, help="Verify, export and prove what the gateway has logged.")


@group.command("verify", epilog=EXAMPLE)
def verify(
    kept: Annotated[
        list[Path] | None,
        typer.Option(
            "--kept", help="Repeatable: a file of checkpoints that were kept elsewhere, such as a copy of witness.txt."
        ),
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", help="The log's verifier key as it was published; by itself this folder's.")
    ] = None,
    data: DataOption = DATA,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Verify the whole log; exit code 1, and the first bad entry, where it does not verify."""
    with open_log(data, store, key) as (database, verifier, vault, witness):
        from safetylayers.oversee.audit.verify import verify as check
        from safetylayers.oversee.audit.witness import read_witness

        notes = [note for path in kept or [] for note in read_witness(path)]
        own = read_witness(witness) if witness is not None and witness.exists() else []
        found = check(database, verifier, vault=vault, kept=notes, own=own)
    if json:
        echo_json(found.model_dump_json(indent=2))
    else:
        typer.echo(f"{found.size} entries, root {found.root}")
        for problem in found.problems:
            typer.echo(f"entry {problem.index}: {problem.text}" if problem.index is not None else problem.text)
        if kept:
            typer.echo(f"kept checkpoints vouch for {found.vouched} of {found.size} entries")
        typer.echo("verified" if found.ok else f"NOT verified; first bad entry: {found.first_bad}")
    if not kept:
        console.print(
            "No checkpoint from elsewhere was given (--kept): a log that was cut or rewritten whole would pass, where "
            "the folder's own witness.txt was rewritten with it."
        )
    if vault is None:
        console.print("Texts were not compared with the log: that takes the gateway's keys.")
    if not found.ok:
        raise typer.Exit(1)


@group.command("export", epilog="Example: `safetylayers audit export > log.jsonl`")
def export(
    texts: Annotated[bool, typer.Option("--texts", help="With prompts and replies, decrypted.")] = False,
    data: DataOption = DATA,
    store: StoreOption = None,
) -> None:
    """Write the whole log as JSON lines that outside tools can verify."""
    with open_site(data, store) as site:
        from safetylayers.oversee.audit.entry import Entry
        from safetylayers.oversee.audit.export import export as lines

        with site.database.write() as connection:
            entry = Entry(kind="exported", actor="machine", facts={"texts": texts}, payload={"user": local_user()})
            site.log.append_in(connection, [entry])
        for line in lines(site.database, site.log.verifier, vault=site.secrets.vault if texts else None):
            sys.stdout.write(line)


@group.command("prove", epilog="Example: `safetylayers audit prove 42 > entry-42.json`")
def prove(
    index: Annotated[int, typer.Argument(help="The entry.", min=0)],
    text: Annotated[bool, typer.Option("--text", help="With the prompt or reply, decrypted; the log says so.")] = False,
    data: DataOption = DATA,
    store: StoreOption = None,
) -> None:
    """Write a proof that an entry is in the log; whoever knows the log's key can check it."""
    with open_site(data, store) as site:
        from safetylayers.oversee.audit.entry import Entry
        from safetylayers.oversee.audit.proof import prove as make

        vault = site.secrets.vault if text else None
        if text and next(site.log.read(start=index, stop=index + 1), None):
            with site.database.write() as connection:
                who = {"user": local_user()}
                entry = Entry(kind="text-read", actor="machine", facts={"entry": index}, payload=who)
                site.log.append_in(connection, [entry])
        echo_json(make(site.database, index, site.log.verifier, vault=vault).model_dump_json(indent=2))


@group.command("check", epilog="Example: `safetylayers audit check entry-42.json --key 'NAME+ID+KEY'`")
def check(
    proof: Annotated[Path, typer.Argument(help="A proof that `prove` wrote.")],
    key: Annotated[str, typer.Option("--key", help="The log's verifier key as it was published.")],
) -> None:
    """Check a proof. No database is needed."""
    from safetylayers.cli.serving import need_extra

    need_extra()
    from safetylayers.oversee.audit.checkpoint import Verifier
    from safetylayers.oversee.audit.proof import check_proof

    try:
        text = proof.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{proof}: cannot be read.", mend="Check the path.") from error
    leaf = check_proof(text, Verifier.parse(key))
    typer.echo(f"entry {leaf.index} is in the log: {leaf.kind}, {leaf.time:%Y-%m-%d %H:%M:%S} UTC, by {leaf.actor}")


@group.command("key", epilog="Example: `safetylayers audit key`")
def show_key(data: DataOption = DATA, store: StoreOption = None) -> None:
    """Print the log's verifier key, to be published where those who verify find it."""
    with open_site(data, store) as site:
        typer.echo(str(site.log.verifier))


@group.command("erase", epilog="Example: `safetylayers audit erase key-3f0c`")
def erase(
    subject: Annotated[str, typer.Argument(help="Whose texts: the id of a key or person, as the log names it.")],
    data: DataOption = DATA,
    store: StoreOption = None,
) -> None:
    """Make everything that one subject wrote unreadable for ever, a person's keys included. The log still verifies."""
    with open_site(data, store) as site:
        from safetylayers.oversee.gateway.forgetting import forget_subject
        from safetylayers.oversee.review.replies import HeldReplies

        gone = forget_subject(site, subject, actor="machine")
        waiting = HeldReplies(site.database, site.log, site.secrets.vault).waiting()
    left = sum(subject in (held.key, held.asked_by) for held in waiting)
    if left:
        console.print(
            f"Of theirs, {left} wait{'' if left > 1 else 's'} for a person: erase again when that is decided."
        )
    elif not (gone.log or gone.review or gone.reasons):
        raise AuditError(f"{subject}: no text of it is kept.", mend="See the ids in: safetylayers audit export")
    _tell(gone, "erased")


@group.command("expire", epilog="Example: `safetylayers audit expire --days 90`")
def expire(
    days: Annotated[
        int, typer.Option("--days", help="Texts older than this go; what was decided stays.", min=1, max=36_500)
    ],
    data: DataOption = DATA,
    store: StoreOption = None,
) -> None:
    """Make texts that are older than so many days unreadable for ever. The log still verifies."""
    with open_site(data, store) as site:
        from safetylayers.oversee.gateway.forgetting import days_ago, forget_before

        gone = forget_before(site, days_ago(days), actor="machine")
    _tell(gone, "expired")


def _tell(gone: Forgotten, how: str) -> None:
    """Say what is gone, and what is not."""
    if not gone.swept:
        console.print(
            "Somebody is reading: until the gateway has started again, the keys of these texts may be found in "
            "store.db-wal."
        )
    typer.echo(f"{gone.log} texts {how} in the log, {gone.review} in the review queue, {gone.reasons} reasons")
