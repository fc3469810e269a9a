"""`safetylayers serve`: a model under human control, behind the OpenAI API."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from safetylayers.cli.serving import DATA, DataOption, StoreOption, checked_store, need_extra, read_secret
from safetylayers.cli.shared import ConfigOption, DeviceOption, DtypeOption, console
from safetylayers.errors import UsageError

if TYPE_CHECKING:
    from safetylayers.locate import SafetyMap
    from safetylayers.oversee.engine.base import Engine
    from safetylayers.oversee.gateway.site import Site

EXAMPLE = "Example: `safetylayers serve tiny --port 8000`"
NEAR = ("127.0.0.1", "::1", "localhost")


def run_command(
    model: Annotated[
        str | None, typer.Argument(help="Folder, hub id, 'tiny' or 'tiny-base'; none with --upstream.")
    ] = None,
    safety_map: Annotated[
        Path | None,
        typer.Option("--map", help="Safety map whose probes watch, where the folder has no attached layers."),
    ] = None,
    upstream: Annotated[
        str | None,
        typer.Option(
            "--upstream", help="Stand in front of another OpenAI-compatible server, e.g. http://127.0.0.1:9000/v1."
        ),
    ] = None,
    upstream_key: Annotated[
        Path | None, typer.Option("--upstream-key-file", help="File with the key for that server.")
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option("--policy", help="First policy (YAML); later ones take two people. By itself a strict one."),
    ] = None,
    data: DataOption = DATA,
    store: StoreOption = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port to listen on; 0 for a free one.", min=0, max=65535)] = 8000,
    names: Annotated[
        list[str] | None,
        typer.Option(
            "--server-name", help="Repeatable: a name that clients call this server by; others are turned away."
        ),
    ] = None,
    proxies: Annotated[
        list[str] | None,
        typer.Option(
            "--proxy",
            help="Repeatable: address or network of a proxy in front, which is believed about who is behind it.",
        ),
    ] = None,
    replica: Annotated[
        str | None, typer.Option("--replica", help="This replica's name; by itself host and a number.")
    ] = None,
    lease: Annotated[
        float, typer.Option("--lease", help="Seconds that a replica runs without a word from the store.", min=0.2)
    ] = 2.0,
    batch: Annotated[int, typer.Option("--batch", help="Replies made at once, of a model here.", min=1)] = 32,
    waiting: Annotated[int, typer.Option("--waiting", help="Requests that may wait for their turn.", min=1)] = 128,
    traces: Annotated[
        str | None, typer.Option("--traces", help="OTLP collector for traces, e.g. http://127.0.0.1:4318/v1/traces.")
    ] = None,
    dtype: DtypeOption = None,
    device: DeviceOption = None,
    config: ConfigOption = None,
) -> None:
    """Serve a model behind a gateway in which people see, intervene, override and shut down."""
    del config
    need_extra()
    from safetylayers.oversee.console import add_console
    from safetylayers.oversee.gateway.app import create_app
    from safetylayers.oversee.gateway.opening import open_house
    from safetylayers.oversee.gateway.safety import LOOPBACK
    from safetylayers.oversee.gateway.server import serve
    from safetylayers.oversee.gateway.site import Site
    from safetylayers.oversee.policy.policy import load_policy

    if (model is None) == (upstream is None):
        raise UsageError("Give a model or --upstream, one of both.", mend="For example: safetylayers serve tiny")
    if host not in NEAR and not names:
        raise UsageError(
            f"--host {host}: others can reach this address, so the server has to know its own name.",
            mend="Add --server-name NAME for each name that clients use, and put TLS in front.",
        )
    first = load_policy(policy) if policy else None
    found = _loaded(safety_map) if safety_map else None
    site = Site.open(data, store=checked_store(store))
    try:
        engine = _engine(model, safety_map, upstream, upstream_key, batch, waiting, dtype, device)
        name = replica or f"{socket.gethostname()}-{secrets.token_hex(3)}"
        _say(site, engine, upstream)
        app = create_app(
            lambda: open_house(
                site, engine, replica=name, first_policy=first, lease_seconds=lease, traces=traces, found=found
            ),
            hosts=LOOPBACK | {known.lower() for known in names or []},
        )
        add_console(app)
        serve(app, host=host, port=port, announce=_announce, proxies=proxies or [])
    finally:
        site.close()


def _loaded(safety_map: Path) -> SafetyMap:
    from safetylayers.locate import SafetyMap  # brings torch, which a gateway in front of another server does without

    return SafetyMap.load(safety_map)


def _engine(
    model: str | None,
    safety_map: Path | None,
    upstream: str | None,
    upstream_key: Path | None,
    batch: int,
    waiting: int,
    dtype: str | None,
    device: str | None,
) -> Engine:
    if upstream is not None:
        from safetylayers.oversee.engine.upstream import UpstreamEngine

        key = read_secret(upstream_key, prompt="") if upstream_key else None
        return UpstreamEngine(upstream, key=key)
    from safetylayers.oversee.engine.load import load_engine

    return load_engine(
        str(model), map_folder=safety_map, dtype=dtype, device=device, max_batch=batch, max_waiting=waiting
    )


def _say(site: Site, engine: Engine, upstream: str | None) -> None:
    """Say what the operator has to know before the first request."""
    if upstream is not None:
        _tell(f"In front of {upstream}: nothing can watch inside that model; guards and people are all there is.")
    else:
        _tell(f"Watching inside the model: {engine.watched_by or 'nothing (no attached layers, no --map)'}.")
    if (path := site.first_key()) is not None:
        _tell(f"A first key for programs is in {path}: export OPENAI_API_KEY=$(cat {path})")
    if not any(person.name != "local-callers" for person in site.people.everybody()):
        _tell(f"Nobody can log in to the console yet: safetylayers people add NAME --role admin --data {site.folder}")


def _tell(text: str) -> None:
    """Say something on standard error, without breaking lines: there are addresses and paths in them."""
    console.print(text, soft_wrap=True, highlight=False, markup=False)


def _announce(address: str) -> None:
    _tell(f"Serving on {address}/v1; the console for people is at {address}/console/")


run_command.__name__ = "serve"
