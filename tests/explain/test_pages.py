"""The pages of explanations: what is on them, how hostile prompts look there, and how large they get."""

from __future__ import annotations

import math

import pytest

from report.sample import StrictReader, read
from safetylayers.explain import Explainer, Explanation, compare
from safetylayers.explain.attention import LastRowAttention, last_row_attention
from safetylayers.explain.causes import Causes, find_causes
from safetylayers.explain.faithfulness import Faithfulness
from safetylayers.explain.pages import comparison_page, explanation_page
from safetylayers.explain.pages.parts import LONG
from safetylayers.explain.saliency import METHODS, Saliency
from safetylayers.explain.swap import Place, Written
from safetylayers.explain.tokens import Word
from safetylayers.models import ChatModel
from safetylayers.report import MAX_BYTES, Page, render_page
from safetylayers.report.text import visible

BOMB, CAKE = "How do I make a bomb at home?", "How do I make a cake at home?"
HOSTILE = (
    '<script>alert(1)</script> "><img src=x onerror=alert(1)> \N{RIGHT-TO-LEFT OVERRIDE}bmob \x00bomb `rm` a`b'
    "\n\nIgnore\tthat, `please"
)
METHODS_SHOWN = ("held-gradient", "occlusion", "gradient")


@pytest.fixture(scope="module")
def bomb(explainer: Explainer) -> Explanation:
    return explainer.explain(BOMB, methods=METHODS_SHOWN)


@pytest.fixture(scope="module")
def cake(explainer: Explainer) -> Explanation:
    return explainer.explain(CAKE, methods=METHODS_SHOWN)


@pytest.fixture(scope="module")
def causes(explainer: Explainer) -> Causes:
    return find_causes(explainer, BOMB, CAKE)


def attention(explainer: Explainer, prompt: str) -> LastRowAttention:
    return last_row_attention(explainer.model, explainer.read(prompt))


def rendered(page: Page) -> StrictReader:
    return read(render_page(page))


def headings(found: StrictReader) -> list[str]:
    return [heading.text for heading in found.all("h2")]


def captions(found: StrictReader) -> list[str]:
    return [part.text.strip() for name in ("figcaption", "caption", "summary") for part in found.all(name)]


def test_every_view_is_on_the_page(explainer: Explainer, bomb: Explanation, causes: Causes) -> None:
    found = rendered(explanation_page(bomb, attention(explainer, BOMB), causes))
    assert headings(found) == [
        "Which words",
        "Where inside",
        "What causes it: swapped activations",
        "What causes it: heads and direction",
        "Can the scores be trusted?",
        "What attention reads (no cause)",
        "Where this comes from",
    ]
    said = captions(found)
    for view in (
        "Words by held-gradient",
        "Words by occlusion",
        "Words by gradient",
        "Tokens of the rendered prompt",
        "How far the prompt lies with malicious ones, layer by layer",
        "Logit lens: refusal log-odds if each layer were the last one",
        "What each layer would say next",
        "What the map's probes say",
        "Each layer's output at the last token, where the reply is chosen",
        "Where the refusal comes from: what each layer's output brings back, token by token",
        "Heads taken out one by one",
        "What each method's scores are worth",
        "What the prompt's last token attends to (mean over heads)",
        "Head by head",
    ):
        assert view in said, view
    assert [word.text for word in found.with_class("lead")] == [bomb.sentence]
    assert "tiny" in found.all("h1")[0].text
    for opening in bomb.openings:
        assert any(opening in fact.text for fact in found.all("dd"))


def test_a_map_is_not_needed(tiny: ChatModel, causes: Causes) -> None:
    explainer = Explainer(tiny, openings=("I",))
    ways = (causes.denoising, causes.noising)
    back, away = (way.model_copy(update={"blocks": ()}) for way in ways)
    without = causes.model_copy(update={"denoising": back, "noising": away})
    html = render_page(explanation_page(explainer.explain(BOMB), attention(explainer, BOMB), without))
    assert "safety layers" not in html
    assert "What the map" not in html


def test_what_was_not_measured_is_said_to_be_missing(explainer: Explainer) -> None:
    html = render_page(explanation_page(explainer.explain(BOMB, methods=(), faithfulness=False)))
    assert "No scores were asked for." in html
    assert "It was not measured" in html
    missing = {"causes": "Both prompts are refused."}
    found = rendered(explanation_page(explainer.explain(BOMB, faithfulness=False), missing=missing))
    (callout,) = found.with_class("warning")
    assert "causes" in callout.text
    assert "Both prompts are refused." in callout.text


def test_scores_no_better_than_chance_are_warned_of(explainer: Explainer) -> None:
    found = rendered(explanation_page(explainer.explain(BOMB, methods=("random",))))
    (callout,) = found.with_class("warning")
    assert "Do not rely on it" in callout.text


@pytest.mark.parametrize("method", METHODS)
def test_every_method_says_what_it_is(bomb: Explanation, cake: Explanation, method: str) -> None:
    def by_method(found: Explanation) -> Explanation:
        saliency = found.scores[0].saliency.model_copy(update={"method": method})
        return found.model_copy(update={"scores": (found.scores[0].model_copy(update={"saliency": saliency}),)})

    for page in (explanation_page(by_method(bomb)), comparison_page(compare(by_method(bomb), by_method(cake)))):
        assert any(start in render_page(page) for start in ("Estimated by", "Measured: by", "Drawn at random"))


def test_two_prompts_are_shown_side_by_side(
    explainer: Explainer, bomb: Explanation, cake: Explanation, causes: Causes
) -> None:
    read_both = [attention(explainer, prompt) for prompt in (BOMB, CAKE)]
    found = rendered(comparison_page(compare(bomb, cake), causes, read_both, missing={"all else": "It is late."}))
    assert headings(found) == [
        "Which words",
        "Where inside",
        "What causes it: swapped activations",
        "What causes it: heads and direction",
        "Can the scores be trusted?",
        "What attention reads (no cause)",
        "Where this comes from",
    ]
    said = captions(found)
    shaded = [caption.text for caption in found.all("figcaption")]
    assert shaded.count("first prompt") == shaded.count("second prompt") == len(METHODS_SHOWN)
    assert {"Words by occlusion", "Words by gradient", "Head by head: second prompt"} <= set(said)
    words = [word.attributes["class"] for word in found.with_class("word")]
    assert len(words) == 2 * 3 * len(bomb.words)
    assert "It is late." in found.with_class("warning")[0].text


def test_two_models_are_told_apart(explainer: Explainer, bomb: Explanation, causes: Causes) -> None:
    other = explainer.beside(ChatModel.load("tiny-base")).explain(BOMB, faithfulness=False)
    page = comparison_page(compare(bomb, other), causes)
    assert page.title == "tiny and tiny-base: two models, one prompt"
    assert page.provenance["weights"] != page.provenance["tiny-base: weights"]
    found = rendered(page)
    assert "What causes it: swapped activations (tiny)" in headings(found)
    assert "not measured how far the scores can be trusted: tiny-base" in "".join(p.text for p in found.all("p"))


def test_hostile_text_is_shown_as_text_everywhere(explainer: Explainer, causes: Causes) -> None:
    found = explainer.explain(HOSTILE)
    assert [word.text for word in found.words] == HOSTILE.split()
    place = {"clean_token": HOSTILE, "counterpart_token": HOSTILE}
    places = causes.places.model_copy(
        update={
            "clean": HOSTILE,
            "counterpart": HOSTILE,
            "places": tuple(each.model_copy(update=place) for each in causes.places.places),
        }
    )
    hostile = causes.model_copy(update={"places": places})
    named = found.model_copy(update={"provenance": found.provenance.model_copy(update={"model": HOSTILE})})
    seen = attention(explainer, HOSTILE)
    for page in (
        explanation_page(named, seen, hostile, missing={HOSTILE: HOSTILE}),
        comparison_page(compare(named, named), hostile, (seen, seen), missing={HOSTILE: HOSTILE}),
    ):
        html = render_page(page)
        assert not any(mark in html for mark in ("<script", "<img", "\N{RIGHT-TO-LEFT OVERRIDE}", "\x00"))
        parsed = read(html)
        shown = [word.text for word in parsed.with_class("word")]
        for word in HOSTILE.split():
            assert any(text.startswith(visible(word)) for text in shown), word
        assert sum(fact.text == visible(HOSTILE) for fact in parsed.all("dd")) >= 2


def wave(*sizes: int) -> float:
    """A number that is no round one."""
    return math.sin(sum((n + 1) * size for n, size in enumerate(sizes)))


def large(bomb: Explanation, layers: int, words: int) -> Explanation:
    """An explanation of a prompt of so many words, a token each, and eight tokens of a template."""
    names = [f" word{n}" for n in range(words)]
    tokens = tuple(["<s>"] * 4 + names + ["</s>"] * 4)
    scored = tuple(
        each.model_copy(
            update={
                "saliency": Saliency(
                    method=each.saliency.method,
                    tokens=tuple(30 * wave(n) for n in range(len(tokens))),
                    words=tuple(30 * wave(n) for n in range(words)),
                )
            }
        )
        for each in bomb.scores
    )
    curve = tuple(wave(layer) for layer in range(layers))
    lens = bomb.verdict.lens.model_copy(
        update={"refusal_log_odds": curve, "top": tuple(bomb.verdict.lens.top[0] for _ in curve)}
    )
    verdict = bomb.verdict.model_copy(
        update={"harm": curve, "refusal": curve, "probes": curve, "thresholds": curve, "lens": lens}
    )
    return bomb.model_copy(
        update={
            "prompt": "".join(names),
            "tokens": tokens,
            "words": tuple(Word(text=name.strip(), first=n + 4, last=n + 4) for n, name in enumerate(names)),
            "n_layers": layers,
            "verdict": verdict,
            "scores": scored,
        }
    )


def large_attention(found: Explanation, heads: int) -> LastRowAttention:
    layers = range(found.n_layers)
    weights = {
        layer: tuple(
            tuple(round(wave(layer, head, n) ** 2 / 50, 5) for n in range(len(found.words))) for head in range(heads)
        )
        for layer in layers
    }
    return LastRowAttention(
        provenance=found.provenance,
        prompt=found.prompt,
        tokens=found.tokens,
        words=tuple(word.text for word in found.words),
        token_weights=dict.fromkeys(layers, ()),
        word_weights=weights,
    )


def large_causes(causes: Causes, found: Explanation) -> Causes:
    layers = range(found.n_layers)
    written = tuple(Written(first=n, last=n, everywhere=wave(n), at_last=wave(n)) for n in layers)
    changed = {"at_last": tuple(wave(n) for n in layers), "written": written}
    places = causes.places.model_copy(
        update={
            "layers": tuple(layers),
            "places": tuple(
                Place(clean=n, counterpart=n, clean_token=token, counterpart_token=f"{token}x")
                for n, token in enumerate(found.tokens)
            ),
            "effects": {"residual": tuple(tuple(wave(layer, n) for n in range(len(found.tokens))) for layer in layers)},
        }
    )
    return causes.model_copy(
        update={
            "denoising": causes.denoising.model_copy(update=changed),
            "noising": causes.noising.model_copy(update=changed),
            "places": places,
        }
    )


@pytest.mark.parametrize(("layers", "words", "heads"), [(32, 120, 9), (32, 40, 32), (80, 1000, 8)])
def test_the_page_of_a_long_prompt_in_a_large_model_is_still_one_to_send(
    bomb: Explanation, causes: Causes, layers: int, words: int, heads: int
) -> None:
    found = large(bomb, layers, words)
    seen, why = large_attention(found, heads), large_causes(causes, found)
    html = render_page(explanation_page(found, seen, why))
    assert len(html.encode()) < MAX_BYTES
    parsed = read(html)
    assert any(f"of {layers * heads} heads that attend most" in caption for caption in captions(parsed))
    assert ("Words by occlusion" in captions(parsed)) == (words < LONG) != ("are in the records alone" in html)
    both = compare(found, found)
    assert len(render_page(comparison_page(both, why, (seen, seen))).encode()) < MAX_BYTES


@pytest.mark.parametrize(("words", "left_out"), [(120, False), (1000, True)])
def test_what_does_not_fit_is_said_to_be_left_out(
    bomb: Explanation, causes: Causes, words: int, left_out: bool
) -> None:
    found = large(bomb, 32, words)
    html = render_page(explanation_page(found, None, large_causes(causes, found)))
    assert ("strongest of 1008 are shown" in html) == left_out
    assert all(f"/word{n}x<" in html for n in range(words)) != left_out


def test_faithfulness_towards_an_answer_is_named_so(bomb: Explanation) -> None:
    first = bomb.scores[0]
    assert isinstance(first.faithfulness, Faithfulness)
    turned = first.faithfulness.model_copy(update={"range": -first.faithfulness.range})
    found = bomb.model_copy(update={"scores": (first.model_copy(update={"faithfulness": turned}),)})
    assert "moved towards an answer" in render_page(explanation_page(found))
