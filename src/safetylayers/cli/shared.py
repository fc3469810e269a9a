"""Options, progress and configuration that every command has."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from safetylayers.errors import UsageError
from safetylayers.prompts import Template
from safetylayers.records import ProgressCallback

if TYPE_CHECKING:
    from safetylayers.models import ChatModel

# Results go to standard output, so that they can be piped; everything else goes to standard error.
console = Console(stderr=True)


def read_config(context: typer.Context, value: Path | None) -> Path | None:
    """Take a YAML file's values as the options' defaults.

    Raises:
        UsageError: the file cannot be read, is no mapping, or names an option that there is not.
    """
    if value is None or context.resilient_parsing:
        return value
    try:
        found: Any = yaml.safe_load(value.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(
            f"{value}: cannot be read as YAML ({error}).", mend="Check the path and the syntax."
        ) from error
    if not isinstance(found, dict):
        raise UsageError(f"{value}: not a mapping of options.", mend="Write one 'option: value' a line.")
    known = _options(context)
    named = {str(key).replace("_", "-"): option for key, option in found.items()}
    if unknown := sorted(set(named) - set(known)):
        raise UsageError(f"{value}: no such option: {', '.join(unknown)}.", mend=f"Known: {', '.join(sorted(known))}.")
    values = {}
    for name, option in named.items():
        alone = getattr(known[name], "multiple", False) and not isinstance(option, list)
        values[str(known[name].name)] = [option] if alone else option
    context.default_map = {**(context.default_map or {}), **values}
    return value


def _options(context: typer.Context) -> dict[str, Any]:
    """Return a command's options by the names that --help shows, without their dashes."""
    named = {
        name.removeprefix("--"): parameter
        for parameter in context.command.params
        for name in parameter.opts
        if name.startswith("--")
    }
    return {name: parameter for name, parameter in named.items() if name not in ("config", "help")}


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", help="YAML file with values for any of these options.", callback=read_config, is_eager=True
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", help="Of all random draws.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the record as JSON.")]
DtypeOption = Annotated[str | None, typer.Option("--dtype", help="float32, bfloat16 or float16; by itself what fits.")]
DeviceOption = Annotated[str | None, typer.Option("--device", help="cpu, cuda or mps; by itself the best there is.")]
TemplateOption = Annotated[Template, typer.Option("--template", help="chat (the model's own) or alpaca (the paper's).")]


@contextmanager
def show_progress() -> Iterator[ProgressCallback]:
    """Show what is being done, how far it is and the time to go, on standard error."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    tasks: dict[str, TaskID] = {}
    with bar, _quiet_libraries():

        def report(done: int, total: int, what: str) -> None:
            if what not in tasks:
                for task in tasks.values():
                    bar.update(task, visible=False)
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total, visible=True)

        yield report


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Keep the libraries' own bars and notices off the screen while ours are on it."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logger = logging.getLogger("transformers")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # peft reads a name that transformers is about to rename; no user can mend it.
            warnings.filterwarnings("ignore", message=".is_gradient_checkpointing", category=FutureWarning)
            yield
    finally:
        logger.setLevel(before)
        transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def load_with_layers(source: str, *, dtype: str | None, device: str | None) -> ChatModel:
    """Load a model, with its safety layers on where its folder holds some, and say so."""
    from safetylayers.attach import GuardedModel, SafetyLayers, has_layers
    from safetylayers.models import ChatModel

    model = ChatModel.load(source, dtype=dtype, device=device)
    if not has_layers(source):
        return model
    layers = SafetyLayers.load(source)
    console.print(f"{source}: its safety layers are on (layers {', '.join(map(str, layers.record.layers))}).")
    return GuardedModel(model, layers, name=model.name)


def echo_json(text: str) -> None:
    """Print a record to standard output."""
    sys.stdout.write(text + "\n")
