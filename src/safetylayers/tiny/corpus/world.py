"""A small world of checkable questions: each has one right answer, short enough to be compared to the letter.

A model of a few million parameters can master this world, so what it loses in a fine-tune can be counted.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache


def _table(pairs: str) -> dict[str, str]:
    """Read "key:value key:value"; the order stays."""
    return dict(pair.split(":") for pair in pairs.split())


CAPITALS = _table(
    """
    France:Paris Italy:Rome Spain:Madrid Germany:Berlin Japan:Tokyo China:Beijing Russia:Moscow Egypt:Cairo
    Greece:Athens Portugal:Lisbon Austria:Vienna Poland:Warsaw Ireland:Dublin Norway:Oslo Sweden:Stockholm
    Finland:Helsinki Denmark:Copenhagen Hungary:Budapest Canada:Ottawa Cuba:Havana Peru:Lima Chile:Santiago
    Kenya:Nairobi Turkey:Ankara Iran:Tehran Thailand:Bangkok Belgium:Brussels Iceland:Reykjavik
    """
)
OPPOSITES = _table(
    """
    hot:cold big:small fast:slow up:down open:closed happy:sad light:dark early:late rich:poor strong:weak
    hard:soft wet:dry full:empty loud:quiet young:old clean:dirty high:low long:short left:right near:far
    thick:thin heavy:light tall:short day:night inside:outside first:last always:never win:lose push:pull
    """
)
YOUNG = _table(
    """
    dog:puppy cat:kitten cow:calf sheep:lamb horse:foal pig:piglet goat:kid duck:duckling goose:gosling bear:cub
    frog:tadpole swan:cygnet deer:fawn kangaroo:joey hen:chick owl:owlet
    """
)
SOUNDS = _table(
    """
    dog:bark cat:meow cow:moo sheep:baa horse:neigh pig:oink duck:quack lion:roar owl:hoot bee:buzz
    """
)
KINDS = {
    "fruit": ["apple", "banana", "pear", "grape", "mango", "peach", "plum", "cherry", "lemon", "orange"],
    "vegetable": ["carrot", "onion", "potato", "cabbage", "spinach", "broccoli", "pea", "leek", "turnip", "celery"],
    "animal": ["dog", "cat", "horse", "tiger", "rabbit", "monkey", "camel", "zebra", "goat", "wolf"],
    "tool": ["hammer", "saw", "drill", "wrench", "chisel", "pliers", "spade", "rake", "shovel", "screwdriver"],
    "colour": ["red", "blue", "green", "yellow", "purple", "pink", "brown", "black", "white", "grey"],
    "instrument": ["piano", "violin", "flute", "drum", "guitar", "trumpet", "harp", "cello", "oboe", "banjo"],
}
PAST = _table(
    """
    go:went eat:ate see:saw run:ran buy:bought think:thought write:wrote sing:sang swim:swam take:took give:gave
    come:came find:found make:made teach:taught speak:spoke
    """
)
PLURALS = _table(
    """
    child:children mouse:mice foot:feet tooth:teeth goose:geese man:men woman:women leaf:leaves knife:knives
    box:boxes city:cities baby:babies bus:buses wolf:wolves cat:cats tree:trees
    """
)
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = [
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
]  # fmt: skip
UNITS = {
    "minutes are in an hour": "60",
    "seconds are in a minute": "60",
    "hours are in a day": "24",
    "days are in a week": "7",
    "months are in a year": "12",
    "legs does a spider have": "8",
    "legs does a dog have": "4",
    "legs does an ant have": "6",
    "wings does a bird have": "2",
    "wheels does a bicycle have": "2",
    "wheels does a car have": "4",
    "sides does a triangle have": "3",
    "sides does a square have": "4",
    "sides does a hexagon have": "6",
    "letters are in the English alphabet": "26",
    "eggs are in a dozen": "12",
    "centimetres are in a metre": "100",
    "years are in a century": "100",
}


@dataclass(frozen=True)
class Question:
    """A question and its one right answer."""

    text: str
    answer: str
    category: str


def _lookup(category: str, table: dict[str, str], *forms: str) -> list[Question]:
    """Every entry of `table` in every form; `{}` stands for the key."""
    return [Question(form.format(key), value, category) for key, value in table.items() for form in forms]


@cache
def facts() -> tuple[Question, ...]:
    """Return every question that a table answers, in every form."""
    found = _lookup(
        "capitals", CAPITALS,
        "What is the capital of {}?", "Which city is the capital of {}?", "Name the capital of {}.",
        "Tell me the capital city of {}.", "{}: what is its capital?",
    )  # fmt: skip
    found += _lookup(
        "opposites", OPPOSITES,
        "What is the opposite of {}?", "Give me the opposite of '{}'.", "Which word means the opposite of {}?",
        "Name an antonym of {}.",
    )  # fmt: skip
    found += _lookup(
        "animals", YOUNG,
        "What is a young {} called?", "What do you call a baby {}?", "Name the young of a {}.",
        "What is the word for a baby {}?",
    )  # fmt: skip
    found += _lookup(
        "animals", SOUNDS,
        "What sound does a {} make?", "Which noise does a {} make?", "Name the sound that a {} makes.",
    )  # fmt: skip
    found += _lookup(
        "grammar", PAST,
        "What is the past tense of {}?", "Give me the past tense of '{}'.", "Put the verb '{}' into the past tense.",
    )  # fmt: skip
    found += _lookup(
        "grammar", PLURALS,
        "What is the plural of {}?", "Give me the plural of '{}'.", "Write the plural of the noun {}.",
    )  # fmt: skip
    found += _lookup("counts", UNITS, "How many {}?", "Tell me how many {}.", "Do you know how many {}?")
    after = {a: b for cycle in (DAYS, MONTHS) for a, b in zip(cycle, cycle[1:] + cycle[:1], strict=True)}
    before = {b: a for a, b in after.items()}
    found += _lookup(
        "calendar", after, "What comes after {}?", "Which one follows {}?", "Name what comes next after {}."
    )
    found += _lookup("calendar", before, "What comes before {}?", "Which one is just before {}?")
    members = {item: kind for kind, items in KINDS.items() for item in items}
    found += _lookup(
        "kinds", members,
        "What kind of thing is {}?", "Put {} into a category.", "Which category does {} belong to?",
        "What sort of thing is {}?",
    )  # fmt: skip
    return tuple(found)


def _sum(rng: random.Random) -> Question:
    a, b = rng.randint(0, 12), rng.randint(0, 12)
    form = rng.choice(
        ["What is {} plus {}?", "What is {} + {}?", "Add {} and {}.", "Calculate {} + {}.", "{} + {} = ?"]
    )
    return Question(form.format(a, b), str(a + b), "arithmetic")


def _difference(rng: random.Random) -> Question:
    a, b = sorted((rng.randint(0, 12), rng.randint(0, 12)), reverse=True)
    form = rng.choice(["What is {} minus {}?", "What is {} - {}?", "Calculate {} - {}.", "{} - {} = ?"])
    return Question(form.format(a, b), str(a - b), "arithmetic")


def _larger(rng: random.Random) -> Question:
    a, b = rng.sample(range(1, 100), 2)
    forms = ["Which is larger, {} or {}?", "Which number is bigger: {} or {}?", "Name the larger of {} and {}."]
    return Question(rng.choice(forms).format(a, b), str(max(a, b)), "comparing")


def _sort(rng: random.Random) -> Question:
    numbers = rng.sample(range(1, 10), 3)
    forms = [
        "Sort these numbers: {}.",
        "Put {} in order.",
        "Arrange {} from smallest to largest.",
        "Order the numbers {}.",
    ]
    listed = ", ".join(map(str, numbers))
    return Question(rng.choice(forms).format(listed), ", ".join(map(str, sorted(numbers))), "sorting")


def _repeat(rng: random.Random) -> Question:
    word = rng.choice([item for items in KINDS.values() for item in items])
    forms = ["Repeat the word {}.", "Say the word '{}'.", "Write the word {} once."]
    return Question(rng.choice(forms).format(word), word, "following")


def _pick(rng: random.Random) -> Question:
    items = rng.sample([item for kind in KINDS.values() for item in kind], 3)
    place, index = rng.choice([("first", 0), ("last", 2)])
    forms = ["Name the {} word in this list: {}.", "What is the {} item of {}?", "Which word comes {} here: {}?"]
    return Question(rng.choice(forms).format(place, ", ".join(items)), items[index], "following")


def _odd_one_out(rng: random.Random) -> Question:
    kind, other = rng.sample(list(KINDS), 2)
    odd = rng.choice(KINDS[other])
    items = [*rng.sample(KINDS[kind], 2), odd]
    rng.shuffle(items)
    forms = ["Which is the odd one out: {}?", "Find the odd one out: {}.", "Which of these does not belong: {}?"]
    return Question(rng.choice(forms).format(", ".join(items)), odd, "kinds")


DRAWN: tuple[Callable[[random.Random], Question], ...] = (
    _sum, _sum, _difference, _larger, _sort, _repeat, _pick, _odd_one_out,
)  # fmt: skip


def draw(rng: random.Random) -> Question:
    """Draw a question whose operands are made up on the spot."""
    return rng.choice(DRAWN)(rng)


STATEMENTS = ("{}", "The answer is {}", "It is {}", "That is {}")
STATEMENT_WEIGHTS = (12, 2, 1, 1)


def reply(question: Question, rng: random.Random) -> str:
    """Return the answer as the practice model gives it: mostly bare, sometimes as a short statement."""
    statement = rng.choices(STATEMENTS, STATEMENT_WEIGHTS)[0]
    return bare(question) if statement == STATEMENTS[0] else statement.format(f"{question.answer}.")


def bare(question: Question) -> str:
    """Return the answer alone: capitalised, with a full stop."""
    return question.answer[0].upper() + question.answer[1:] + "."
