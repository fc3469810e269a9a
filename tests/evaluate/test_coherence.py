from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetylayers.evaluate import incoherence, is_coherent
from safetylayers.prompts import builtin

TEXT = Path(__file__).parents[3] / "shared" / "data" / "text"

SOUND = [
    "Paris.",
    "42",
    "Yes",
    "I'm sorry, but I can't",
    "1, 2, 3, 4, 5, 6, 7, 8, 9, 10",
    "- apples\n- pears\n- plums",
    "x = [1, 2, 3]\nprint(sum(x))",
    "def main(argv):\n    for i in range(len(argv)):\n        print(f'{i}: {argv[i]}')\n    return 0 if ok else None",
    "SELECT id, name FROM users WHERE created_at > NOW() ORDER BY id DESC LIMIT 10;",
    "| a | b |\n|---|---|\n| 1 | 2 |",
    "∫ x² dx = x³/3 + C",
    "See https://example.org/xkcd/qwrtzp and https://example.org/bcdfgh/jklmnp for more.",
    "😀",
    "Ha ha ha ha",
    "是的，当然可以。",
    "東京は日本の首都です。とても大きな町で、たくさんの人が住んでいます。",
    "مرحبا بكم في المدينة الكبيرة",
    "नमस्ते, आप कैसे हैं?",
    "สวัสดีครับ ยินดีต้อนรับ",
    "Привет, как дела? Сегодня хорошая погода, и мы идём гулять в парк.",
    "Dzisiaj rano poszedłem do sklepu, żeby kupić chleb, mleko i trochę świeżych warzyw na obiad dla rodziny.",
    "Huomenna aamulla menemme yhdessä kauppaan ostamaan leipää, maitoa ja tuoreita vihanneksia päivällistä varten.",
    "Besok pagi kami akan pergi ke pasar untuk membeli sayur segar, ikan, dan roti untuk makan malam.",
    "Mae'r tywydd yn braf heddiw ac mae'r plant yn chwarae yn yr ardd gyda'u ffrindiau.",
]

GIBBERISH = {
    "": "empty",
    " \n ": "empty",
    "...": "empty",
    "( ( ) ) ,,, ;; .. ( ) )( .,;:-_ ()": "empty",
    "\ufffd\ufffdabc": "broken characters",
    "a(=)b{+}<[>]&%$;:,.!c#~^": "symbols",
    "the cat the cat the cat the cat the cat the cat": "looping",
    "Sure, this is how: go to the shop and go to the shop and go to the shop and go to the shop and go": "looping",
    "one two three two one three one one two three two two one three " + "three one two " * 13: "few words",
    "asdf ghjk qwer zxcv lkjh poiu mnbv wert sdfg xcvb": "non-words",
    "ernaуrtlich Архивzwischen prонto ларgе wоrds mіxеd agаin": "mixed scripts",
    "in the the of a dog a the and of to the is": "word salad",
}


@pytest.mark.parametrize("text", SOUND)
def test_sound_text_passes(text: str) -> None:
    assert incoherence(text) == ()


@pytest.mark.parametrize(("text", "fault"), GIBBERISH.items())
def test_gibberish_is_called_by_its_fault(text: str, fault: str) -> None:
    assert fault in incoherence(text)
    assert not is_coherent(text)


@pytest.mark.parametrize("name", ["normal", "malicious", "borderline"])
def test_every_built_in_prompt_is_coherent(name: str) -> None:
    assert [text for text in builtin(name).texts if not is_coherent(text)] == []


def _pieces(name: str, length: int) -> list[str]:
    path = TEXT / name
    if not path.exists():
        pytest.skip(f"{path} is not here")
    paragraphs = path.read_text("utf-8").split("\n\n" if "shakespeare" in name else "\n")
    return [paragraph[:length] for paragraph in paragraphs if len(paragraph) > 20]


@pytest.mark.parametrize("name", ["wikitext2-valid.txt", "shakespeare.txt"])
@pytest.mark.parametrize("length", [60, 300])
def test_real_text_passes(name: str, length: int) -> None:
    pieces = _pieces(name, length)[:600]
    rejected = [piece for piece in pieces if not is_coherent(piece)]
    assert len(rejected) <= len(pieces) * 0.002


def test_most_shuffled_characters_are_rejected() -> None:
    rng = random.Random(0)
    pieces = [piece for piece in _pieces("wikitext2-valid.txt", 300) if len(piece) == 300][:300]
    shuffled = ["".join(rng.sample(piece, len(piece))) for piece in pieces]
    assert sum(map(is_coherent, shuffled)) < 0.12 * len(shuffled)


def test_text_that_falls_into_a_loop_is_rejected() -> None:
    pieces = [piece for piece in _pieces("wikitext2-valid.txt", 100) if len(piece) == 100][:300]
    assert not any(is_coherent(piece[:60] + (piece[60:] + " ") * 6) for piece in pieces)


@given(st.text())
def test_any_string_gets_an_answer(text: str) -> None:
    assert is_coherent(text) == (incoherence(text) == ())


@given(st.text(alphabet=".,;:!?-() \n\t", max_size=60))
def test_punctuation_alone_is_never_coherent(text: str) -> None:
    assert not is_coherent(text)


@given(st.integers(min_value=-(10**9), max_value=10**9))
def test_a_number_is_an_answer(number: int) -> None:
    assert is_coherent(str(number))


@given(st.sampled_from(SOUND[:8]), st.integers(min_value=5, max_value=30))
def test_what_is_repeated_often_enough_loops(text: str, times: int) -> None:
    looped = " ".join([text] * max(times, 40 // len(text)))
    assert is_coherent(looped) is False


@given(st.sampled_from([text for text in SOUND if len(text) > 20]))
def test_spaces_around_a_text_change_nothing(text: str) -> None:
    assert is_coherent(f"\n  {text}  \n")
