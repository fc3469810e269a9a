"""`safetylayers screen`: the rows of a fine-tuning set that would move a model toward compliance."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated

import typer

from safetylayers.cli.shared import (
    ConfigOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    RowsArgument,
    SeedOption,
    console,
    echo_json,
    show_progress,
)

EXAMPLE = "Example: `safetylayers screen tiny data.jsonl --map tiny-map -o screened`"


def run_command(
    model: Annotated[str, typer.Argument(help="The model to be fine-tuned: folder, hub id or 'tiny'.")],
    data: RowsArgument,
    map_folder: Annotated[Path, typer.Option("--map", help="The model's safety map.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for flagged rows, the others, and the report.")
    ] = Path("screened"),
    trusted: Annotated[
        str | None, typer.Option("--trusted", help="Harmless rows of the same style, which set the limits.")
    ] = None,
    false_positives: Annotated[
        float, typer.Option("--false-positives", help="Share of trusted rows that may be flagged.")
    ] = 0.02,
    seed: SeedOption = 0,
    dtype: DtypeOption = None,
    device: DeviceOption = None,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Flag rows of fine-tuning data that would move a model toward compliance; write them and the others apart."""
    del config
    from safetylayers.finetune import screen
    from safetylayers.finetune.pages import screen_page
    from safetylayers.locate import SafetyMap
    from safetylayers.models import ChatModel
    from safetylayers.prompts import load_examples
    from safetylayers.prompts.table import read_rows
    from safetylayers.records import write_text
    from safetylayers.report import write_page

    with show_progress() as progress:
        rows = load_examples(data)
        places = [row.place for row in read_rows(data)]
        result = screen(
            ChatModel.load(model, dtype=dtype, device=device),
            rows,
            SafetyMap.load(map_folder),
            trusted=load_examples(trusted) if trusted else None,
            false_positives=false_positives,
            seed=seed,
            progress=progress,
        )
    flagged = [
        {
            "place": places[index],
            "row": index + 1,
            "score": round(result.scores[index], 4),
            "reasons": result.reasons(index),
            "messages": rows.examples[index].messages,
        }
        for index in result.flagged
    ]
    clean = [{"messages": row.messages} for row, score in zip(rows, result.scores, strict=True) if score < 1]
    for name, found in (("flagged.jsonl", flagged), ("clean.jsonl", clean)):
        lines = [json_module.dumps(row, ensure_ascii=False) + "\n" for row in found]
        write_text(output / name, "".join(lines))
    result.write(output / "result.json")
    write_page(screen_page(result, rows, places), output / "report.html")
    if json:
        echo_json(result.model_dump_json(indent=2))
    else:
        for index in result.flagged[:10]:
            typer.echo(f"{places[index]}: {result.scores[index]:.2f}, {'; '.join(result.reasons(index))}")
    console.print(f"{len(flagged)} of {len(rows)} rows flagged. The others: {output / 'clean.jsonl'}")


run_command.__name__ = "screen"
