"""`safetylayers align ask`: people say which of two replies is better."""

from __future__ import annotations

import io
import json as json_module
import secrets
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from safetylayers.cli.serving import need_extra
from safetylayers.cli.shared import (
    ConfigOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelArgument,
    SeedOption,
    check_layers,
    console,
    echo_json,
    layers_read,
    show_progress,
)
from safetylayers.errors import UsageError

if TYPE_CHECKING:
    from safetylayers.align.ask.asking import Asking, AskingRecord, Shown
    from safetylayers.align.ask.questions import Question

EXAMPLE = "Example: `safetylayers align ask tiny questions.jsonl --layers 0-1 --store labels.db --by NAME --web`"
Strategy = Literal["information", "thompson", "random"]
"""As in `align.ask.active`, which takes a second to import."""
KEYS = "1 the first, 2 the second, 0 equally good, s skip, u undo, q quit"


def run_command(
    model: ModelArgument,
    questions: Annotated[
        str,
        typer.Argument(
            help="Rows with prompt, first and second; or choices, with chosen and rejected: file or hub id."
        ),
    ],
    store: Annotated[Path, typer.Option("--store", help="File in which answers are kept (SQLite); made if missing.")],
    map_folder: Annotated[
        Path | None, typer.Option("--map", help="The model's safety map, whose layers are read.")
    ] = None,
    layers: Annotated[
        str | None, typer.Option("--layers", help="Layers that are read, A-B, in place of a map.")
    ] = None,
    by: Annotated[str, typer.Option("--by", help="Who answers; the page asks for it where it is missing.")] = "",
    web: Annotated[
        bool, typer.Option("--web", help="Ask on a web page on this machine and not in the terminal.")
    ] = False,
    port: Annotated[int, typer.Option("--port", help="Of the page; 0 takes a free one.", min=0, max=65535)] = 0,
    strategy: Annotated[
        Strategy,
        typer.Option("--strategy", help="By which the next question is chosen: random, information, thompson."),
    ] = "random",
    budget: Annotated[
        int, typer.Option("--budget", help="Answers of each person, those of earlier sittings included.", min=0)
    ] = 50,
    questions_out: Annotated[
        Path | None,
        typer.Option("--questions-out", help="Ask nobody: write what is left of the budget here, the best first."),
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option("--answers", help="Ask nobody: take answers from here, rows of id, answer and by."),
    ] = None,
    export: Annotated[
        Path | None, typer.Option("--export", help="At the end, write all choices in the store here, as pairs (JSONL).")
    ] = None,
    seed: SeedOption = 0,
    dtype: DtypeOption = None,
    device: DeviceOption = None,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Ask people which of two replies is better, in the terminal or on a page; every answer is kept."""
    del config
    from safetylayers.align.ask.asking import Asking
    from safetylayers.align.ask.choosing import Candidates, read_questions
    from safetylayers.align.ask.labels import Labels, checked_name
    from safetylayers.align.ask.questions import load_questions
    from safetylayers.models import ChatModel

    if web and (questions_out or answers):
        raise UsageError(
            "--questions-out and --answers ask nobody, --web asks people.", mend="Leave out --web, or the others."
        )
    in_terminal = not (web or questions_out or answers)
    by = _checked(by and checked_name(by), map_folder, layers, named=in_terminal or questions_out is not None)
    if web:
        need_extra()
    found = load_questions(questions)
    with show_progress() as progress:
        reader = ChatModel.load(model, dtype=dtype, device=device)
        read = layers_read(reader, map_folder, layers)
        labels = Labels(store)  # made only when the rest makes sense; looked at before a long wait
        labels.add(found)
        if answers:
            console.print(f"{labels.take_answers(answers, by=by)} answers taken.")
        differences = read_questions(reader, found, layers=read, progress=progress)
    asking = Asking(Candidates(tuple(found), differences), labels, strategy=strategy, budget=budget, seed=seed)
    if questions_out:
        _write_questions(asking.left(by), questions_out)
    if web:
        _serve(asking, port, by)
    if in_terminal:
        _ask(asking, by)
    if export:
        console.print(f"{labels.write_pairs(export)} choices: {export}", soft_wrap=True, markup=False)
    _print(asking.record(), json=json)


def _checked(by: str, map_folder: Path | None, layers: str | None, *, named: bool) -> str:
    check_layers(map_folder, layers)
    if named and not by:
        raise UsageError("Nobody is named who answers.", mend="Give --by NAME.")
    return by


def _write_questions(questions: Sequence[Question], path: Path) -> None:
    from safetylayers.records import write_text

    rows = [
        {"id": each.id, "prompt": list(each.messages), "first": each.first, "second": each.second, "value": each.value}
        for each in questions
    ]
    write_text(path, "".join(json_module.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    console.print(f"{len(rows)} questions: {path}", soft_wrap=True, markup=False)


def _serve(asking: Asking, port: int, by: str) -> None:
    from safetylayers.align.ask.page import create_app, serve

    token = secrets.token_urlsafe(32)
    _tell("Whoever has this address can answer. Interrupt (Ctrl-C) when you are done; every answer is kept at once.")
    serve(create_app(asking, token=token, by=by), port=port, announce=lambda at: _tell(f"{at}/?token={token}"))


def _ask(asking: Asking, by: str) -> None:
    """Ask in the terminal, or whatever writes to standard input, line by line."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # what is not UTF-8 is no answer, and no reason to break off
    while (shown := asking.next(by)) is not None:
        _tell(f"\n{asking.progress(by)}")
        _show(shown)
        while (answer := _answer()) is None:
            _tell(f"Answer with {KEYS}.")
        if answer == "q":
            return
        if answer != "u":
            asking.answer(by, shown.question.id, answer)
        elif not asking.undo(by):
            _tell("There is nothing to undo.")


def _answer() -> str | None:
    """Return what was answered; None where it is no answer. The end of the input is an answer: to quit."""
    from safetylayers.align.ask.asking import KEYS as ANSWERS

    _tell(f"[{KEYS}]")
    line = sys.stdin.readline()
    said = line.strip().lower() if line else "q"
    return said if said in (*ANSWERS, "u", "q") else None


def _show(shown: Shown) -> None:
    for turn in shown.question.messages:
        _tell(f"{_on_one_line(turn['role']).capitalize()}:\n{_quoted(turn['content'])}")
    about = f" in terms of {_on_one_line(shown.question.value)}" if shown.question.value else ""
    _tell(f"Which reply is better{about}?\n1:\n{_quoted(shown.one)}\n2:\n{_quoted(shown.two)}")


def _on_one_line(text: str) -> str:
    """Make what stands among our own words visible, so that it cannot begin a line and pass for them."""
    from safetylayers.report.text import visible

    return visible(text).replace("\n", "⟨U+000A⟩")


def _quoted(text: str) -> str:
    """Set off what somebody else wrote, so that it cannot pass for our own words."""
    return textwrap.indent(text, "    ", lambda _: True)


def _tell(text: str) -> None:
    """Say something on standard error. Control characters are shown and not obeyed: strangers' texts come this way."""
    from safetylayers.report.text import visible

    console.print(visible(text), soft_wrap=True, highlight=False, markup=False, emoji=False)


def _print(record: AskingRecord, *, json: bool) -> None:
    if json:
        echo_json(record.model_dump_json(indent=2))
        return
    for name, person in record.people.items():
        line = f"{name}\t{person.answers} answered\t{person.skipped} skipped"
        if person.reliability is not None:
            line += f"\treliability {person.reliability:.2f}\tas the others {100 * (person.agreement or 0):.0f} %"
        typer.echo(line + ("\tapart" if person.apart else ""))
    typer.echo(f"held-out\t{record.accuracy or 'too few answers'}")


run_command.__name__ = "ask"
