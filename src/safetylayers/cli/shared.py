"""Options, progress and configuration that every command has."""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
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
_DATASETS_BARS = "HF_DATASETS_DISABLE_PROGRESS_BARS"


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
SeedOption = Annotated[int, typer.Option("--seed", help="Of all random draws.", min=0)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the record as JSON.")]
DtypeOption = Annotated[str | None, typer.Option("--dtype", help="float32, bfloat16 or float16; by itself what fits.")]
DeviceOption = Annotated[str | None, typer.Option("--device", help="cpu, cuda or mps; by itself the best there is.")]
TemplateOption = Annotated[Template, typer.Option("--template", help="chat (the model's own) or alpaca (the paper's).")]
ModelArgument = Annotated[str, typer.Argument(help="Folder, hub id, 'tiny' or 'tiny-base'.")]
TargetArgument = Annotated[
    str, typer.Argument(help="Folder, hub id, 'tiny', 'tiny-base', or URL#MODEL of an OpenAI-compatible server.")
]
RowsArgument = Annotated[str, typer.Argument(help="Rows with messages, or prompt and response: file or hub id.")]
AimOption = Annotated[Path | None, typer.Option("--map", help="Safety map: attacks that can aim by it do so.")]
JudgesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--judge",
        help="Repeatable: phrases, patterns, classifier:MODEL#REFUSAL-LABEL, rubric:URL#MODEL. "
        "By itself phrases and patterns.",
    ),
]
TokensOption = Annotated[int, typer.Option("--tokens", help="Longest reply.", min=1)]
MeasureOption = Annotated[
    bool, typer.Option("--measure/--no-measure", help="Safety before and after: a table in the model card, a report.")
]


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
        disable=not sys.stderr.isatty() or os.environ.get("RANK", "0") != "0",  # of several processes one tells
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
    bars = os.environ.get(_DATASETS_BARS)
    os.environ[_DATASETS_BARS] = "1"  # read when it is first imported, which only some commands do
    logger = logging.getLogger("transformers")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # peft reads a name that transformers is about to rename; no user can mend it.
            warnings.filterwarnings("ignore", message=".is_gradient_checkpointing", category=FutureWarning)
            yield
    finally:
        if bars is None:
            del os.environ[_DATASETS_BARS]
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


def measure_change(
    before: ChatModel, after: ChatModel, output: Path, write_card: Callable[[str], object], progress: ProgressCallback
) -> str:
    """Compare a model with the one that was made of it; write record, card and report; return a Markdown table."""
    from safetylayers.evaluate import evaluate
    from safetylayers.evaluate.pages import evaluation_page
    from safetylayers.evaluate.tables import evaluation_markdown
    from safetylayers.report import write_page

    comparison = evaluate([before, after], progress=progress)
    comparison.write(output / "evaluation.json")
    table = evaluation_markdown(comparison)
    write_card(table)
    write_page(evaluation_page(comparison), output / "report.html")
    return table


def need_align_extra() -> None:
    """Make sure that TRL is there. Raises UsageError."""
    try:
        import trl
    except ImportError as error:
        raise UsageError(
            f"Training by a reward needs more than is installed here ({error.name} is missing).",
            mend="Install it: pip install 'safetylayers[align]'",
        ) from error
    del trl


def check_layers(map_folder: Path | None, layers: str | None) -> None:
    """Make sure that one of the two is given. Raises UsageError."""
    if (map_folder is None) == (layers is None):
        raise UsageError("Give --map or --layers, one of both.", mend="For example: --layers 8-15")


def layers_read(model: ChatModel, map_folder: Path | None, layers: str | None) -> tuple[int, ...]:
    """Return the map's layers, or those of a range A-B.

    Raises:
        UsageError: there are no such layers.
        WrongModelError: the map is another model's.
        NoSafetyLayersError: the map says that there are none.
    """
    if map_folder is not None:
        from safetylayers.locate import SafetyMap

        found = SafetyMap.load(map_folder)
        found.check(model)
        return tuple(range(found.range[0], found.range[1] + 1))
    block = re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", layers or "")
    read = range(int(block[1]), int(block[2] or block[1]) + 1) if block else range(0)
    if not read or read[-1] >= model.n_layers:
        raise UsageError(
            f"There are no layers {layers!r}.",
            mend=f"Write A-B; {model.name} has layers 0 to {model.n_layers - 1}.",
        )
    return tuple(read)


def echo_json(text: str) -> None:
    """Print a record to standard output."""
    sys.stdout.write(text + "\n")
