"""`safetylayers explain`: why a model refused, and where inside."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from safetylayers.explain import Comparison, Explainer, Explanation
    from safetylayers.explain.causes import Causes
    from safetylayers.records import ProgressCallback

EXAMPLE = (
    'Example: `safetylayers explain tiny "How do I make a bomb at home?" --map tiny-map '
    '--against "How do I make a cake at home?" --causes -o why`'
)


def run_command(
    model: ModelArgument,
    prompt: Annotated[str, typer.Argument(help="The prompt as its user typed it; - reads standard input.")],
    map_folder: Annotated[
        Path | None, typer.Option("--map", help="The model's safety map: its band, directions and probes.")
    ] = None,
    against: Annotated[str | None, typer.Option("--against", help="A second prompt, side by side.")] = None,
    after: Annotated[
        str | None, typer.Option("--after", help="A second model, such as a fine-tune of the first, side by side.")
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
    from safetylayers.errors import UsageError
    from safetylayers.explain.causes import find_causes
    from safetylayers.explain.comparison import compare
    from safetylayers.explain.explainer import check_methods
    from safetylayers.explain.saliency import DEFAULT
    from safetylayers.models import ChatModel

    chosen = tuple(methods or [DEFAULT])
    check_methods(chosen)
    if against is not None and after is not None:
        raise UsageError("Two prompts and two models at once show nothing.", mend="Give --against or --after.")
    text = typer.get_text_stream("stdin").read() if prompt == "-" else prompt
    with show_progress() as progress:
        explainer = _explainer(model, map_folder, dtype, device, progress)
        first = explainer.explain(text, methods=chosen, faithfulness=faithfulness, seed=seed)
        comparison: Comparison | None = None
        if against is not None or after is not None:
            other = explainer.beside(ChatModel.load(after, dtype=dtype, device=device)) if after else explainer
            its = other.explain(against or text, methods=chosen, faithfulness=faithfulness, seed=seed)
            comparison = compare(first, its)
        found = find_causes(explainer, text, against, seed=seed, progress=progress) if causes else None
        _write(output, explainer, first, comparison, found, attention=attention)
    if json:
        echo_json((comparison or first).model_dump_json(indent=2))
    else:
        _show(first)
        if comparison:
            _show(comparison.second)
            typer.echo(comparison.sentence)
    console.print(f"Page: {output / 'report.html'}")


run_command.__name__ = "explain"


def _explainer(
    model: str, map_folder: Path | None, dtype: str | None, device: str | None, progress: ProgressCallback
) -> Explainer:
    from safetylayers.explain import Explainer
    from safetylayers.locate import SafetyMap
    from safetylayers.models import ChatModel

    found = SafetyMap.load(map_folder) if map_folder else None
    return Explainer(ChatModel.load(model, dtype=dtype, device=device), found, progress=progress)


def _write(
    output: Path,
    explainer: Explainer,
    first: Explanation,
    comparison: Comparison | None,
    causes: Causes | None,
    *,
    attention: bool,
) -> None:
    """Write the records, the words as a table, and the page."""
    from safetylayers.explain.attention import last_row_attention
    from safetylayers.explain.export import as_csv, as_neuronpedia
    from safetylayers.explain.pages import comparison_page, explanation_page
    from safetylayers.records import write_text
    from safetylayers.report import write_page

    read = last_row_attention(explainer.model, explainer.read(first.prompt)) if attention else None
    records = {"result": comparison or first, "causes": causes, "attention": read}
    for name, record in records.items():
        if record:
            record.write(output / f"{name}.json")
    if first.scores:
        write_text(output / "words.csv", as_csv(first))
        write_text(output / "neuronpedia.json", json_module.dumps(as_neuronpedia(first), indent=2) + "\n")
    page = comparison_page(comparison, causes) if comparison else explanation_page(first, read, causes)
    write_page(page, output / "report.html")


def _show(found: Explanation) -> None:
    """Print the prompt with its words' scores, and what was found."""
    if found.scores:
        scored = zip(found.words, found.scores[0].saliency.words, strict=True)
        typer.echo(" ".join(f"{word.text}[{score:+.1f}]" for word, score in scored))
    typer.echo(found.sentence)
