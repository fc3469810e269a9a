"""`safetylayers explain`: why a model refused, and where inside."""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from safetylayers.cli.shared import (
    ConfigOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelArgument,
    SeedOption,
    console,
    echo_json,
    show_progress,
)
from safetylayers.errors import OutputError, SafetyLayersError, UsageError

if TYPE_CHECKING:
    from safetylayers.explain import Comparison, Explainer, Explanation
    from safetylayers.explain.overview import Overview
    from safetylayers.records import ProgressCallback
    from safetylayers.report import Page

EXAMPLE = (
    'Example: `safetylayers explain tiny "How do I make a bomb at home?" --map tiny-map '
    '--against "How do I make a cake at home?" --causes -o why`'
)
_SECOND = ("", "-second")
"""What files of the first and of the second explanation are called after."""
_FILES = ("result.json", "causes.json", "report.html", *(
    f"{name}{second}.{kind}"
    for name, kind in (("words", "csv"), ("neuronpedia", "json"), ("attention", "json"), ("trace", "json"))
    for second in _SECOND
))  # fmt: skip
Found = TypeVar("Found")


def run_command(
    model: ModelArgument,
    prompt: Annotated[
        str | None, typer.Argument(help="The prompt as its user typed it; - reads standard input.")
    ] = None,
    map_folder: Annotated[
        Path | None, typer.Option("--map", help="The model's safety map: its band, directions and probes.")
    ] = None,
    against: Annotated[str | None, typer.Option("--against", help="A second prompt, side by side.")] = None,
    after: Annotated[
        str | None, typer.Option("--after", help="A second model, such as a fine-tune of the first, side by side.")
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(
            "--prompts", help="In place of a prompt, a whole set: name, file or hub id. What it is refused for."
        ),
    ] = None,
    methods: Annotated[
        list[str] | None,
        typer.Option(
            "--method", help="Repeatable: held-gradient (by itself), gradient, integrated, occlusion, random."
        ),
    ] = None,
    causes: Annotated[
        bool,
        typer.Option("--causes", help="Patch, take heads out and steer: what is shown to be a cause. Takes longer."),
    ] = False,
    attention: Annotated[
        bool, typer.Option("--attention", help="Show what attention heads read from: a diagnostic, and no cause.")
    ] = False,
    trace: Annotated[bool, typer.Option("--trace", help="Follow the model's own reply, token by token.")] = False,
    faithfulness: Annotated[
        bool, typer.Option("--faithfulness/--no-faithfulness", help="Measure how far the scores can be trusted.")
    ] = True,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for records, tables and the page.")] = Path(
        "why"
    ),
    seed: SeedOption = 0,
    dtype: DtypeOption = None,
    device: DeviceOption = None,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Say which words made a model refuse, at which layer that shows, what is a cause, and how far to trust it."""
    del config
    from safetylayers.explain import compare
    from safetylayers.explain.explainer import check_methods
    from safetylayers.explain.saliency import DEFAULT
    from safetylayers.models import ChatModel
    from safetylayers.report import write_page

    chosen = tuple(methods or [DEFAULT])
    check_methods(chosen)
    text = _asked(prompt, against, after, prompts, extra=causes or attention or trace or len(chosen) > 1)
    _make(output)
    with show_progress() as progress:
        explainer = _explainer(model, map_folder, dtype, device, progress)
        result: Explanation | Comparison | Overview
        if prompts is not None:
            result, page = _overview(explainer, prompts, chosen[0], output, progress)
        else:
            asked = [(explainer, text)]
            if after is not None:
                asked.append((explainer.beside(ChatModel.load(after, dtype=dtype, device=device)), text))
            elif against is not None:
                asked.append((explainer, against))
            for each, words in asked:
                each.read(words)  # what cannot be read is said before the work begins
            found = [each.explain(words, methods=chosen, faithfulness=faithfulness, seed=seed) for each, words in asked]
            result = compare(*found) if len(found) > 1 else found[0]
            _write(output, result, found)
            wanted = [name for name, on in (("causes", causes), ("attention", attention), ("trace", trace)) if on]
            page = _page(output, result, asked, wanted, against, seed, progress)
    write_page(page, output / "report.html")
    if json:
        echo_json(result.model_dump_json(indent=2))
    else:
        _show(result)
    console.print(f"Page: {output / 'report.html'}", markup=False, soft_wrap=True)


run_command.__name__ = "explain"


def _asked(prompt: str | None, against: str | None, after: str | None, prompts: str | None, *, extra: bool) -> str:
    """Return the prompt that is explained, nothing for a whole set of them. Raises UsageError."""
    if prompts is not None:
        if prompt is not None or against is not None or after is not None or extra:
            raise UsageError(
                "--prompts goes with no prompt, second method, --against, --after, --causes, --attention or --trace.",
                mend="Explain the set, or a prompt of it.",
            )
        return ""
    if prompt is None:
        raise UsageError("There is nothing to explain.", mend="Give a prompt, or a set of them with --prompts.")
    if against is not None and after is not None:
        raise UsageError("Two prompts and two models at once show nothing.", mend="Give --against or --after.")
    text = _standard_input() if prompt == "-" else prompt
    if against == text:
        raise UsageError("The two prompts are the same.", mend="Give another one with --against.")
    try:
        f"{text}{against}".encode()
    except UnicodeEncodeError as error:
        raise UsageError("The prompt holds bytes that are no text.", mend="Give it as UTF-8.") from error
    return text


def _standard_input() -> str:
    """Return the prompt without the line break at its end, which the shell put there. Raises UsageError."""
    try:
        return sys.stdin.read().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise UsageError("Standard input holds bytes that are no text.", mend="Give the prompt as UTF-8.") from error


def _make(folder: Path) -> None:
    """Make the folder before there is anything to lose. Raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> OutputError:
    return OutputError(f"{folder}: cannot be written to ({error.strerror}).", mend="Choose another folder with -o.")


def _explainer(
    model: str, map_folder: Path | None, dtype: str | None, device: str | None, progress: ProgressCallback
) -> Explainer:
    from safetylayers.explain import Explainer
    from safetylayers.locate import SafetyMap
    from safetylayers.models import ChatModel

    found = SafetyMap.load(map_folder) if map_folder else None
    return Explainer(ChatModel.load(model, dtype=dtype, device=device), found, progress=progress)


def _overview(
    explainer: Explainer, prompts: str, method: str, output: Path, progress: ProgressCallback
) -> tuple[Overview, Page]:
    from safetylayers.explain.overview import overview
    from safetylayers.explain.pages import overview_page
    from safetylayers.prompts import load_prompts

    result = overview(explainer, load_prompts(prompts), method=method, progress=progress)
    _write(output, result, ())
    return result, overview_page(result)


def _write(output: Path, result: Explanation | Comparison | Overview, found: Sequence[Explanation]) -> None:
    """Write what there is before anything else is tried. No file of an earlier run stays beside it."""
    from safetylayers.explain.export import as_csv, as_neuronpedia
    from safetylayers.records import write_text

    try:
        for name in _FILES:
            (output / name).unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(output, error) from error
    result.write(output / "result.json")
    for each, second in zip(found, _SECOND, strict=False):
        write_text(output / f"words{second}.csv", as_csv(each))
        activation = json_module.dumps(as_neuronpedia(each), indent=2)
        write_text(output / f"neuronpedia{second}.json", activation + "\n")


def _page(
    output: Path,
    result: Explanation | Comparison,
    asked: Sequence[tuple[Explainer, str]],
    wanted: Sequence[str],
    against: str | None,
    seed: int,
    progress: ProgressCallback,
) -> Page:
    """Find what else was asked for, write it, and return the page of it all."""
    from safetylayers.explain import Comparison
    from safetylayers.explain.attention import last_row_attention
    from safetylayers.explain.causes import find_causes
    from safetylayers.explain.pages import comparison_page, explanation_page
    from safetylayers.explain.trace import trace_reply

    missing: dict[str, str] = {}
    (explainer, text), *_ = asked
    shown = read = replied = None
    if "causes" in wanted:
        shown = _tried("causes", lambda: find_causes(explainer, text, against, seed=seed, progress=progress), missing)
    if "attention" in wanted:
        read = _tried("attention", lambda: [last_row_attention(one.model, one.read(it)) for one, it in asked], missing)
    if "trace" in wanted:
        replied = _tried("trace", lambda: [trace_reply(one, it) for one, it in asked], missing)
    if shown:
        shown.write(output / "causes.json")
    for record, second in zip(read or (), _SECOND, strict=False):
        record.write(output / f"attention{second}.json")
    for reply, second in zip(replied or (), _SECOND, strict=False):
        reply.write(output / f"trace{second}.json")
    if isinstance(result, Comparison):
        return comparison_page(result, shown, read or (), replied or (), missing=missing)
    first_read, first_reply = read[0] if read else None, replied[0] if replied else None
    return explanation_page(result, first_read, shown, first_reply, missing=missing)


def _tried(what: str, find: Callable[[], Found], missing: dict[str, str]) -> Found | None:
    """Return what is found; where it cannot be, say why and go on: the explanation is worth having without it."""
    try:
        return find()
    except SafetyLayersError as error:
        missing[what] = f"{error.message} {error.mend}".strip()
        console.print(f"No {what}: {missing[what]}", markup=False, highlight=False, soft_wrap=True)
        return None


def _show(result: Explanation | Comparison | Overview) -> None:
    """Print the words with their scores, and what was found."""
    from safetylayers.explain import Comparison, Explanation
    from safetylayers.report.text import visible

    if isinstance(result, Comparison):
        _show(result.first)
        _show(result.second)
    elif isinstance(result, Explanation):
        scored = zip(result.words, result.scores[0].saliency.words, strict=True)
        typer.echo(visible(" ".join(f"{word.text}[{score:+.1f}]" for word, score in scored)))
    else:
        for word in result.words:
            typer.echo(visible(f"{word.word}\t{word.effect.mean:+.1f}\t{word.refused}"))
    typer.echo(visible(result.sentence))
