"""`safetylayers stop`: one person, at once, everywhere."""

from __future__ import annotations

from dataclasses import asdict
from json import dumps
from typing import Annotated

import typer

from safetylayers.cli.serving import DATA, DataOption, StoreOption, open_site, signed_reason
from safetylayers.cli.shared import ConfigOption, JsonOption, console, echo_json

EXAMPLE = 'Example: `safetylayers stop --reason "the model tells what it should not"`'

HOW = {
    "confirmed": "has ended everything, as it said",
    "closed": "was closed",
    "lease": "cannot be reached, and has stopped by itself, at the latest",
}


def run_command(
    reason: Annotated[str, typer.Option("--reason", "-r", help="For the log and for callers.")] = "stopped by hand",
    data: DataOption = DATA,
    store: StoreOption = None,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """End every running generation on every replica, and answer nothing more until two people resume."""
    del config
    with open_site(data, store) as site:
        from safetylayers.oversee.identity.principal import MACHINE
        from safetylayers.oversee.modes.stop import stop_everything

        report = stop_everything(site.database, site.log, by=MACHINE, reason=signed_reason(reason))
    if json:
        echo_json(dumps(asdict(report), indent=2))
        return
    for replica in report.replicas:
        how = HOW[replica.how]
        console.print(f"{replica.name}: {how} {replica.after_ms:.0f} ms after the order", markup=False)
    if not report.logged:
        console.print("The stop is in the log; how long it took could not be written there.")
    typer.echo(f"stopped, {len(report.replicas)} replicas, known after {report.took_ms:.0f} ms")


run_command.__name__ = "stop"
