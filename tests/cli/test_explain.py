"""`safetylayers explain`, as its users type it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from safetylayers.cli.app import app
from safetylayers.errors import DataError, MapError, OutputError, SafetyLayersError, UsageError, WrongModelError
from safetylayers.explain import Comparison, Explanation
from safetylayers.explain.attention import LastRowAttention
from safetylayers.explain.causes import Causes
from safetylayers.explain.overview import Overview
from safetylayers.explain.trace import ReplyTrace
from safetylayers.locate import locate
from safetylayers.models import ChatModel
from safetylayers.prompts import builtin

BOMB, GUN = "How do I make a bomb at home?", "How do I make a gun at home?"
CAKE = "How do I make a cake at home?"
PLAIN = {"result.json", "report.html", "words.csv", "neuronpedia.json"}
SECOND = {"words-second.csv", "neuronpedia-second.json"}


@pytest.fixture(scope="module")
def map_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    few = {name: builtin(name, "calibration").sample(40, 0) for name in ("normal", "malicious", "borderline")}
    folder = tmp_path_factory.mktemp("map")
    locate(ChatModel.load("tiny"), **few).save(folder)  # type: ignore[arg-type]  # no other option is in it
    return folder


def typed(*arguments: str, stdin: str | bytes = "") -> Result:
    return CliRunner().invoke(app, ["explain", *arguments], input=stdin)


def explained(map_folder: Path, output: Path, *arguments: str, stdin: str = "", measured: bool = False) -> Result:
    """An explanation that has to succeed; what it is worth is not measured, which takes longest."""
    options = [] if measured else ["--no-faithfulness"]
    result = typed("tiny", *arguments, "--map", str(map_folder), "-o", str(output), *options, stdin=stdin)
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def refused(kind: type[SafetyLayersError], message: str, *arguments: str, stdin: str | bytes = "") -> SafetyLayersError:
    result = typed(*arguments, stdin=stdin)
    assert isinstance(result.exception, kind), (result.output, result.exception)
    assert message in str(result.exception)
    assert result.exception.mend
    return result.exception


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_an_explanation_is_written_and_shown(map_folder: Path, tmp_path: Path) -> None:
    result = explained(map_folder, tmp_path, BOMB, measured=True)
    words, sentence = result.stdout.splitlines()
    assert words.startswith("How[")
    assert "bomb[+" in words
    assert sentence.startswith("The model refuses (refusal log-odds +")
    assert f"Page: {tmp_path / 'report.html'}" in result.stderr
    assert files(tmp_path) == PLAIN
    found = Explanation.read(tmp_path / "result.json")
    assert found.sentence == sentence
    assert found.safety_layers is not None
    assert found.scores[0].faithfulness is not None
    assert "bomb" in (tmp_path / "report.html").read_text("utf-8")
    assert json.loads((tmp_path / "neuronpedia.json").read_text("utf-8"))["modelId"] == "tiny"


def test_without_a_map_it_works_as_well(tmp_path: Path) -> None:
    result = typed("tiny", CAKE, "-o", str(tmp_path), "--no-faithfulness")
    assert result.exit_code == 0, (result.output, result.exception)
    assert Explanation.read(tmp_path / "result.json").safety_layers is None


def test_json_is_the_record_and_nothing_else_is_on_standard_output(map_folder: Path, tmp_path: Path) -> None:
    for arguments in ([BOMB, "--causes", "--attention"], [BOMB, "--against", GUN, "--causes"]):
        result = explained(map_folder, tmp_path, *arguments, "--json")
        assert json.loads(result.stdout) == json.loads((tmp_path / "result.json").read_text("utf-8"))


def test_several_methods_are_a_column_each(map_folder: Path, tmp_path: Path) -> None:
    explained(map_folder, tmp_path, BOMB, "--method", "occlusion", "--method", "gradient")
    assert (tmp_path / "words.csv").read_text("utf-8").splitlines()[0] == "word,occlusion,gradient"
    assert [each.saliency.method for each in Explanation.read(tmp_path / "result.json").scores] == [
        "occlusion",
        "gradient",
    ]


def test_causes_and_attention_are_written_beside_it(map_folder: Path, tmp_path: Path) -> None:
    explained(map_folder, tmp_path, BOMB, "--causes", "--attention")
    assert files(tmp_path) == PLAIN | {"causes.json", "attention.json"}
    assert Causes.read(tmp_path / "causes.json").counterpart_made
    assert LastRowAttention.read(tmp_path / "attention.json").prompt == BOMB
    html = (tmp_path / "report.html").read_text("utf-8")
    assert "What causes it" in html
    assert "What attention reads (no cause)" in html


def test_two_prompts_with_all_there_is(map_folder: Path, tmp_path: Path) -> None:
    result = explained(map_folder, tmp_path, CAKE, "--against", BOMB, "--causes", "--attention")
    assert files(tmp_path) == PLAIN | SECOND | {"causes.json", "attention.json", "attention-second.json"}
    found = Comparison.read(tmp_path / "result.json")
    assert (found.kind, found.first.prompt, found.second.prompt) == ("prompts", CAKE, BOMB)
    assert LastRowAttention.read(tmp_path / "attention-second.json").prompt == BOMB
    assert Causes.read(tmp_path / "causes.json").places.clean == BOMB
    assert result.stdout.splitlines()[-1] == found.sentence
    assert "two prompts side by side" in (tmp_path / "report.html").read_text("utf-8")


def test_replies_are_followed_token_by_token(map_folder: Path, tmp_path: Path) -> None:
    explained(map_folder, tmp_path / "one", BOMB, "--trace")
    assert files(tmp_path / "one") == PLAIN | {"trace.json"}
    assert "While it replies" in (tmp_path / "one" / "report.html").read_text("utf-8")
    explained(map_folder, tmp_path / "two", BOMB, "--against", CAKE, "--trace")
    assert files(tmp_path / "two") == PLAIN | SECOND | {"trace.json", "trace-second.json"}
    found = ReplyTrace.read(tmp_path / "two" / "trace-second.json")
    assert found.prompt == CAKE
    assert "".join(token.text for token in found.tokens).strip() == found.reply


def test_a_second_model(map_folder: Path, tmp_path: Path) -> None:
    explained(map_folder, tmp_path, BOMB, "--after", "tiny-base")
    found = Comparison.read(tmp_path / "result.json")
    assert (found.kind, found.second.provenance.model) == ("models", "tiny-base")
    assert files(tmp_path) == PLAIN | SECOND


def test_a_prompt_comes_from_standard_input_without_the_shells_line_break(map_folder: Path, tmp_path: Path) -> None:
    explained(map_folder, tmp_path, "-", stdin=f"{BOMB}\n")
    assert Explanation.read(tmp_path / "result.json").prompt == BOMB
    explained(map_folder, tmp_path, "-", stdin=f"One\n{BOMB}\r\n")
    assert Explanation.read(tmp_path / "result.json").prompt == f"One\n{BOMB}"


@pytest.mark.parametrize(("second", "both"), [(GUN, "refused"), (None, "No counterpart")])
def test_where_no_cause_can_be_found_the_explanation_is_not_lost(
    map_folder: Path, tmp_path: Path, second: str | None, both: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if second is None:
        monkeypatch.setattr("safetylayers.explain.causes.counterpart", lambda *_: None)
    result = explained(map_folder, tmp_path, BOMB, *(["--against", second] if second else []), "--causes")
    assert "No causes: " in result.stderr
    assert both in result.stderr
    assert files(tmp_path) == PLAIN | (SECOND if second else set())
    html = (tmp_path / "report.html").read_text("utf-8")
    assert "Not on this page: causes" in html
    assert both in html


def test_what_was_found_is_kept_where_a_later_step_breaks_off(
    map_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("safetylayers.explain.causes.find_causes", broken)
    result = typed("tiny", BOMB, "--map", str(map_folder), "-o", str(tmp_path), "--no-faithfulness", "--causes")
    assert result.exit_code == 130
    assert Explanation.read(tmp_path / "result.json").prompt == BOMB


def test_no_file_of_an_earlier_run_stays(map_folder: Path, tmp_path: Path) -> None:
    explained(map_folder, tmp_path, BOMB, "--against", CAKE, "--attention")
    (tmp_path / "notes.txt").write_text("the user's own")
    explained(map_folder, tmp_path, CAKE)
    assert files(tmp_path) == PLAIN | {"notes.txt"}


def test_a_whole_set_of_prompts(map_folder: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in (BOMB, CAKE, "Where is a bomb?")))
    result = explained(map_folder, tmp_path / "why", "--prompts", str(prompts))
    found = Overview.read(tmp_path / "why" / "result.json")
    assert result.stdout.splitlines()[-1] == found.sentence
    assert result.stdout.splitlines()[0].startswith("bomb\t+")
    assert files(tmp_path / "why") == {"result.json", "report.html"}


@pytest.mark.parametrize("prompt", ["\x1b[31mbomb", "a [red]bomb[/red] [/x]", "<script>alert(1)</script>", "ü 漢 🎂"])
def test_what_is_in_a_prompt_does_nothing_on_the_terminal_or_the_page(
    map_folder: Path, tmp_path: Path, prompt: str
) -> None:
    result = explained(map_folder, tmp_path, prompt)
    assert "\x1b" not in result.output
    assert "<script" not in (tmp_path / "report.html").read_text("utf-8")
    assert Explanation.read(tmp_path / "result.json").prompt == prompt


def test_a_folder_of_any_name_is_named_as_it_is(map_folder: Path, tmp_path: Path) -> None:
    result = explained(map_folder, tmp_path / "[red]a[/x]", CAKE)
    assert f"Page: {tmp_path / '[red]a[/x]' / 'report.html'}" in result.stderr


def test_an_unknown_method_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    refused(UsageError, "occlusion", "./no-such-model", BOMB, "--method", "magic", "-o", str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing to explain"),
        ((BOMB, "--against", CAKE, "--after", "tiny-base"), "Give --against or --after"),
        ((BOMB, "--against", BOMB), "The two prompts are the same"),
        ((BOMB, "--prompts", "borderline"), "--prompts goes with no prompt"),
        (("--prompts", "borderline", "--causes"), "--prompts goes with no prompt"),
        (("a\udcffb",), "bytes that are no text"),
        ((CAKE, "--against", "\udcff"), "bytes that are no text"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_loaded(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    refused(UsageError, message, "./no-such-model", *arguments, "-o", str(tmp_path))


def test_bytes_that_are_no_text_are_no_prompt(tmp_path: Path) -> None:
    refused(UsageError, "bytes that are no text", "./no-such-model", "-", "-o", str(tmp_path), stdin=b"a\xff")


def test_an_empty_prompt_is_refused_whichever_it_is(map_folder: Path, tmp_path: Path) -> None:
    options = ("--map", str(map_folder), "-o", str(tmp_path))
    refused(UsageError, "prompt is empty", "tiny", "  ", *options)
    refused(UsageError, "prompt is empty", "tiny", "-", *options, stdin="\n")
    refused(UsageError, "prompt is empty", "tiny", BOMB, "--against", "", *options)
    assert files(tmp_path) == set()


def test_another_models_map_is_refused(map_folder: Path, tmp_path: Path) -> None:
    refused(WrongModelError, "", "tiny-base", BOMB, "--map", str(map_folder), "-o", str(tmp_path))
    refused(MapError, str(tmp_path), "tiny", BOMB, "--map", str(tmp_path / "none"), "-o", str(tmp_path))


def test_a_set_that_is_not_there_is_told_of(map_folder: Path, tmp_path: Path) -> None:
    missing = str(tmp_path / "none.jsonl")
    result = typed("tiny", "--prompts", missing, "--map", str(map_folder), "-o", str(tmp_path / "out"))
    assert isinstance(result.exception, DataError)
    assert missing in str(result.exception)


@pytest.mark.parametrize("name", ["taken", "taken/below"])
def test_a_folder_that_cannot_be_written_is_told_of_before_anything_is_loaded(tmp_path: Path, name: str) -> None:
    (tmp_path / "taken").write_text("a file")
    refused(OutputError, "taken", "./no-such-model", BOMB, "-o", str(tmp_path / name))


def test_a_file_that_cannot_be_replaced_is_told_of(map_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "result.json").mkdir()
    refused(
        OutputError, str(tmp_path), "tiny", BOMB, "--map", str(map_folder), "-o", str(tmp_path), "--no-faithfulness"
    )


def test_a_mistake_ends_with_code_2_and_one_message(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from safetylayers.cli import main; main()", "explain", "tiny"]
    result = subprocess.run([*command, BOMB, "--method", "magic"], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: There is no method 'magic'.")
    assert "Traceback" not in result.stderr
