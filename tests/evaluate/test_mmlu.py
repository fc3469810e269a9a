from __future__ import annotations

from pathlib import Path

import pytest

from safetylayers.errors import DataError
from safetylayers.evaluate import choice_accuracy, load_choice_questions
from safetylayers.evaluate.mmlu import choose
from safetylayers.models import ChatModel
from safetylayers.prompts import render

MMLU = Path(__file__).parents[3] / "shared" / "data" / "mmlu" / "dev"
HEADER = "question,choice0,choice1,choice2,choice3,answer\n"


def _file(folder: Path, text: str) -> Path:
    path = folder / "questions.csv"
    path.write_text(text, "utf-8")
    return path


def test_answers_are_numbers_or_letters(tmp_path: Path) -> None:
    path = _file(tmp_path, HEADER + 'What is 1 + 1?,1,2,3,4,1\n"Which, of these?",a,b,c,d,d\n')
    first, second = load_choice_questions(path)
    assert (first.answer, second.answer) == (1, 3)
    assert first.prompt == "What is 1 + 1?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer with the letter of the right choice."
    assert load_choice_questions(path, limit=1) == [first]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("question,choice0,choice1,choice2,answer\n", r"line 1: no column 'choice3'"),
        ("", r"line 1: no column 'question'"),
        (HEADER, "no questions"),
        (HEADER + "Q,1,2,3,4,0\nQ,1,2,3,4,7\n", r"line 3: the answer is '7'"),
        (HEADER + "Q,1,2,,4,0\n", r"line 2: 'choice2' is empty"),
        (HEADER + "Q,1,2,3\n", r"line 2: 'choice3' is empty"),
        (HEADER + "Q,1,2,3,4,0,5\n", r"line 2: more than 6 cells"),
    ],
)
def test_a_malformed_file_is_named_with_line_and_mend(tmp_path: Path, text: str, says: str) -> None:
    path = _file(tmp_path, text)
    with pytest.raises(DataError, match=says) as caught:
        load_choice_questions(path)
    assert str(path) in caught.value.message
    assert caught.value.mend


def test_a_missing_file_or_another_encoding_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        load_choice_questions(tmp_path / "none.csv")
    path = tmp_path / "latin.csv"
    path.write_bytes(HEADER.encode() + "Caf\xe9,1,2,3,4,0\n".encode("latin-1"))
    with pytest.raises(DataError, match="cannot be read"):
        load_choice_questions(path)


def test_the_likeliest_letter_is_chosen(llama: ChatModel, tmp_path: Path) -> None:
    path = _file(tmp_path, HEADER + "".join(f"Q{n}?,1,2,3,4,{n % 4}\n" for n in range(8)))
    questions = load_choice_questions(path)
    rendered = render([question.prompt for question in questions], llama.tokenizer)
    logits = llama.next_token_logits(llama.tokenize(rendered))
    letters = [llama.tokenizer(letter, add_special_tokens=False).input_ids[0] for letter in "ABCD"]
    expected = [int(row[letters].argmax()) == q.answer for row, q in zip(logits, questions, strict=True)]
    assert choose(llama, questions) == expected
    assert choice_accuracy(llama, path).count == sum(expected)


def test_every_file_of_mmlu_is_read() -> None:
    if not MMLU.is_dir():
        pytest.skip(f"{MMLU} is not here")
    assert sum(len(load_choice_questions(path)) for path in MMLU.glob("*.csv")) == 285
