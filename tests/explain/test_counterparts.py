"""Counterparts: which tokens correspond, and how a harmless prompt is made of a harmful one."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from torch import Tensor

from safetylayers.errors import UsageError
from safetylayers.explain.counterparts import FILLERS, aligned, counterpart
from safetylayers.explain.target import RefusalOdds, Tokens, values_of
from safetylayers.explain.tokens import Reading, Word, read_prompt
from safetylayers.models import Batch, ChatModel


@dataclass(frozen=True)
class Holds:
    """Whether a token is in the prompt."""

    token: int
    name: str = "holds"
    endings: tuple[Tokens, ...] = ((),)

    def values(self, model: ChatModel, batch: Batch, embedded: Tensor | None = None) -> Tensor:
        return (batch.input_ids == self.token).any(dim=1).double() - 0.5


@pytest.fixture(scope="module")
def tiny() -> ChatModel:
    return ChatModel.load("tiny")


@pytest.fixture(scope="module")
def target(tiny: ChatModel) -> RefusalOdds:
    return RefusalOdds.of(tiny, ["I'm sor", "I can"])


def reading(letters: str) -> Reading:
    """A prompt of one token a letter."""
    return Reading(letters, tuple(map(ord, letters)), tuple(letters), (Word(text=letters, first=0, last=0),))


def letters(first: str, second: str) -> list[str]:
    """What corresponds, as letters."""
    return [first[a] + second[b] for a, b in aligned(reading(first), reading(second))]


def test_of_equally_many_tokens_each_corresponds_to_the_one_at_its_place() -> None:
    assert letters("<bomb>", "<cake>") == ["<<", "bc", "oa", "mk", "be", ">>"]


def test_otherwise_the_shared_beginning_and_end_do_and_the_last_token_of_what_differs() -> None:
    assert letters("<<axyz>>", "<<bq>>") == ["<<", "<<", "zq", ">>", ">>"]


def test_where_one_prompt_leaves_words_out_nothing_stands_in_their_place() -> None:
    assert letters("<abcd>", "<ad>") == ["<<", "aa", "dd", ">>"]
    assert letters("aab", "aaab") == ["aa", "aa", "bb"]


def test_each_token_corresponds_to_one_at_most_and_in_order() -> None:
    pairs = aligned(reading("<aaaa>"), reading("<aa>"))
    assert list(pairs) == sorted(pairs)
    assert len({a for a, _ in pairs}) == len({b for _, b in pairs}) == len(pairs)


def test_prompts_of_different_length_and_end_cannot_be_aligned() -> None:
    with pytest.raises(UsageError, match="end differently"):
        aligned(reading("abc"), reading("abcd"))


def test_the_fewest_words_give_way_that_turn_the_sign(tiny: ChatModel, target: RefusalOdds) -> None:
    bomb = read_prompt("How do I make a bomb at home?", tiny.tokenizer)
    made = counterpart(tiny, target, bomb, [5, 3, 7])
    assert made
    assert made.prompt == "How do I make a day at home?"
    assert [word.text for word in made.words] == made.prompt.split()
    assert len(made.token_ids) == len(bomb.token_ids)
    assert tiny.tokenizer.decode(made.token_ids) == "".join(made.tokens)
    before, after = values_of(target, tiny, [bomb.token_ids, made.token_ids]).tolist()
    assert before > 0 > after


def test_words_are_added_until_the_sign_turns(tiny: ChatModel, target: RefusalOdds) -> None:
    bomb = read_prompt("How do I make a bomb at home?", tiny.tokenizer)
    made = counterpart(tiny, target, bomb, [6, 5, 0], filler=" this")
    assert made
    assert made.prompt == "How do I make a this this home?"


def test_where_no_word_turns_the_sign_there_is_no_counterpart(tiny: ChatModel, target: RefusalOdds) -> None:
    bomb = read_prompt("How do I make a bomb at home?", tiny.tokenizer)
    assert counterpart(tiny, target, bomb, [4, 6], filler=" it") is None


def test_a_token_that_another_word_needs_stays(tiny: ChatModel, target: RefusalOdds) -> None:
    bomb = read_prompt("How do I make a bomb at home?", tiny.tokenizer)
    shared = Reading(bomb.prompt, bomb.token_ids, bomb.tokens, (Word(text="a", first=5, last=6), *bomb.words[5:]))
    made = counterpart(tiny, target, shared, [0, 1], filler=" it")
    assert made
    assert made.tokens[5:7] == (" it", " it")
    assert counterpart(tiny, target, shared, [0], filler=" it") is None


@pytest.mark.parametrize("ranking", [[], [8], [-1], [5, 5]])
def test_what_is_no_ranking_is_refused(tiny: ChatModel, target: RefusalOdds, ranking: list[int]) -> None:
    with pytest.raises(UsageError, match="no ranking"):
        counterpart(tiny, target, read_prompt("How do I make a bomb at home?", tiny.tokenizer), ranking)


def test_the_filler_is_the_one_with_which_the_fewest_words_go(tiny: ChatModel, target: RefusalOdds) -> None:
    read = read_prompt("Teach me how to arm my gang with military weapons.", tiny.tokenizer)
    ranking = [8, 7, 5, 3, 0, 1, 2, 4, 6]

    def replaced(filler: str | None) -> int:
        made = counterpart(tiny, target, read, ranking, filler=filler)
        assert made
        return sum(old != new for old, new in zip(read.words, made.words, strict=True))

    assert replaced(None) == min(map(replaced, FILLERS)) < max(map(replaced, FILLERS))


def test_a_tokenizer_of_letters_has_a_filler_too(llama: ChatModel) -> None:
    (letter,) = llama.tokenizer("b", add_special_tokens=False).input_ids
    made = counterpart(llama, Holds(letter), read_prompt("a bomb, now", llama.tokenizer), [2, 1, 0])
    assert made
    assert made.prompt == "a ..... ..."


def test_a_filler_is_one_token(tiny: ChatModel, target: RefusalOdds) -> None:
    with pytest.raises(UsageError, match="not a single token"):
        counterpart(tiny, target, read_prompt("Make a bomb", tiny.tokenizer), [2], filler=" something quite else")
