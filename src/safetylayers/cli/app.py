"""The program `safetylayers`."""

from __future__ import annotations

import sys

import typer

from safetylayers.cli import (
    align,
    attach,
    attack,
    audit,
    demo,
    evaluate,
    explain,
    finetune,
    gate,
    harden,
    keys,
    locate,
    mode,
    people,
    policy,
    restore,
    screen,
    serve,
    stop,
)
from safetylayers.errors import SafetyLayersError

COMMANDS = (demo, locate, finetune, screen, restore, attach, attack, harden, gate, explain, evaluate, serve, stop)
GROUPS = {
    "align": align.group,
    "mode": mode.group,
    "policy": policy.group,
    "people": people.group,
    "keys": keys.group,
    "audit": audit.group,
}
INTERRUPTED = 130
"""Exit code after an interrupt from the keyboard."""

app = typer.Typer(
    name="safetylayers",
    help="Find a language model's safety layers, keep them through fine-tuning, and prove it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in COMMANDS:
    app.command(epilog=command.EXAMPLE)(command.run_command)
for name, group in GROUPS.items():
    app.add_typer(group, name=name)


@app.callback()
def version_option(
    version: bool = typer.Option(False, "--version", help="Show the version and exit.", is_eager=True),
) -> None:
    """Find a language model's safety layers, keep them through fine-tuning, and prove it."""
    if version:
        from safetylayers import __version__

        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run the program; a user's mistake ends with exit code 2 and one message."""
    try:
        app()
    except SafetyLayersError as error:
        sys.stderr.write(f"error: {error}\nMore: docs/errors/{error.page}.md\n")
        sys.exit(2)
    except SystemExit as end:
        if end.code == INTERRUPTED:  # typer has turned the keyboard's interrupt into this
            sys.stderr.write("interrupted; run the same command again to go on\n")
        raise
