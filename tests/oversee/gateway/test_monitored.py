"""The gateway over a model of its own, with monitors inside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from oversee.engine.asking import probing
from oversee.servers import running
from safetylayers.attach import SafetyLayers
from safetylayers.models import ChatModel
from safetylayers.oversee.engine.local import LocalEngine
from safetylayers.oversee.gateway.app import create_app
from safetylayers.oversee.gateway.opening import open_house
from safetylayers.oversee.gateway.site import Site
from safetylayers.oversee.policy.policy import parse_policy
from safetylayers.prompts import builtin

POLICY = """
version: 1
name: watched
limits: {alternatives: 5}
monitors: {prompt: {action: %s}, reply: {action: %s}}
review: {hold_seconds: 0.5}
"""
HARMLESS = "What is the capital of France?"
MALICIOUS = builtin("malicious", "train").texts[0]


@pytest.fixture(scope="module")
def tiny() -> ChatModel:
    return ChatModel.load("tiny")


@pytest.fixture(scope="module")
def layers(tiny: ChatModel) -> SafetyLayers:
    return probing(tiny)


class Watched:
    """A gateway over the practice model."""

    def __init__(self, address: str, site: Site) -> None:
        self.site = site
        key = (site.folder / "caller.key").read_text().strip()
        self.client = httpx.Client(base_url=address, headers={"authorization": f"Bearer {key}"}, timeout=60)

    def chat(self, text: str, **fields: Any) -> Any:
        body = {"model": "tiny", "messages": [{"role": "user", "content": text}], "max_tokens": 16, **fields}
        return self.client.post("/v1/chat/completions", json={"temperature": 0, **body}).json()

    def choice(self, text: str) -> tuple[str, str]:
        found = self.chat(text)["choices"][0]
        return found["finish_reason"], found["message"]["content"]


Opener = Callable[..., AbstractContextManager[Watched]]


@pytest.fixture
def watch(tmp_path: Path, tiny: ChatModel, layers: SafetyLayers) -> Opener:
    """Start gateways over the practice model."""

    @contextmanager
    def begin(
        prompt: str, reply: str = "block", *, watched: SafetyLayers | None = layers, steers: bool = True
    ) -> Iterator[Watched]:
        site = Site.open(tmp_path / prompt)
        site.first_key()
        engine = LocalEngine(tiny, layers=watched, steers=steers and watched is not None, names=("tiny",))
        policy = parse_policy(POLICY % (prompt, reply))
        with running(create_app(lambda: open_house(site, engine, replica="one", first_policy=policy))) as address:
            gateway = Watched(address, site)
            yield gateway
            gateway.client.close()
        site.close()

    return begin


def test_a_prompt_over_the_threshold_is_caught_before_a_token_leaves(watch: Opener) -> None:
    with watch("block") as gateway:
        assert gateway.choice(HARMLESS)[0] in ("stop", "length")
        finish, text = gateway.choice(MALICIOUS)
        assert finish == "content_filter"
        assert "withheld" in text
        withheld = list(gateway.site.log.read(kinds=["withhold"]))[-1]
        assert [(ruling["by"], ruling["action"]) for ruling in withheld.facts["rulings"]] == [
            ("monitor:prompt", "block")
        ]
        assert withheld.facts["rulings"][0]["score"] > 0


def test_steering_goes_through_the_gate_and_is_logged_with_its_strength(watch: Opener) -> None:
    with watch("steer", "steer") as gateway:
        gateway.choice(HARMLESS)
        assert list(gateway.site.log.read(kinds=["release"]))[-1].facts["steered"]["tokens"] == 0
        gateway.choice(MALICIOUS)
        steered: Any = list(gateway.site.log.read(kinds=["release"]))[-1].facts["steered"]
        assert steered["tokens"] > 0
        assert steered["strength"] >= 1


def test_monitors_that_cannot_steer_block(watch: Opener) -> None:
    with watch("steer", "steer", steers=False) as gateway:
        assert gateway.choice(MALICIOUS)[0] == "content_filter"
        assert gateway.choice(HARMLESS)[0] != "content_filter"


def test_in_shadow_monitors_change_nothing(watch: Opener, tiny: ChatModel) -> None:
    with watch("allow", "allow") as gateway, watch("hold", watched=None) as bare:
        assert gateway.chat(MALICIOUS)["choices"] == bare.chat(MALICIOUS)["choices"]


@pytest.mark.parametrize("broken", [0.0, float("nan")])
def test_dead_monitors_restrict_the_gateway(watch: Opener, tiny: ChatModel, broken: float) -> None:
    with watch("block", watched=probing(tiny, broken=broken)) as gateway:
        assert gateway.choice(HARMLESS)[0] == "content_filter"
        request = list(gateway.site.log.read(kinds=["request"]))[-1]
        assert "monitors-dead" in [ruling["kind"] for ruling in request.facts["rulings"]]
        assert "safetylayers_monitors_alive 0.0" in gateway.client.get("/metrics").text


def test_moderation_asks_the_monitors_too(watch: Opener) -> None:
    with watch("block") as gateway:
        found = gateway.client.post("/v1/moderations", json={"input": [MALICIOUS, HARMLESS]}).json()["results"]
        assert [result["flagged"] for result in found] == [True, False]
        assert found[0]["category_scores"]["harm"] > 0.5 > found[1]["category_scores"]["harm"]


def test_prompts_are_scored_as_lm_eval_needs(watch: Opener) -> None:
    with watch("block") as gateway:
        body = {"model": "tiny", "prompt": "The capital of France", "max_tokens": 0, "echo": True, "logprobs": 2}
        found = gateway.client.post("/v1/completions", json=body).json()["choices"][0]
        scored = found["logprobs"]
        assert found["text"] == "".join(scored["tokens"]) == "The capital of France"
        assert scored["token_logprobs"][0] is None
        assert all(logprob < 0 for logprob in scored["token_logprobs"][1:])
        assert scored["text_offset"] == [
            sum(map(len, scored["tokens"][:place])) for place in range(len(scored["tokens"]))
        ]


@pytest.mark.parametrize("prompt", ["The capital of France is", "What is the capital of France? Paris."])
def test_a_scored_text_has_one_entry_more_for_one_token_more_though_it_be_the_end(watch: Opener, prompt: str) -> None:
    with watch("block") as gateway:
        body = {"model": "tiny", "prompt": prompt, "echo": True, "logprobs": 1, "temperature": 0}
        alone, more = (
            gateway.client.post("/v1/completions", json=body | {"max_tokens": most}).json()["choices"][0]
            for most in (0, 1)
        )
        assert more["finish_reason"] == ("stop" if prompt.endswith(".") else "length")
        assert "".join(more["logprobs"]["tokens"]) == more["text"]
        for name, entries in alone["logprobs"].items():
            assert more["logprobs"][name][:-1] == entries, name
        assert more["logprobs"]["text_offset"][-1] == len(prompt)

        events = gateway.client.post("/v1/completions", json=body | {"max_tokens": 1, "stream": True}).text
        parts = [json.loads(line[6:]) for line in events.splitlines() if line.startswith("data: {")]
        told = [part["choices"][0].get("logprobs") for part in parts]
        for name, entries in more["logprobs"].items():
            assert [entry for part in told if part for entry in part[name]] == entries, name


def test_a_withheld_text_has_no_likelihood(watch: Opener, tiny: ChatModel) -> None:
    with watch("block", watched=probing(tiny, broken=0.0)) as gateway:
        body = {"model": "tiny", "prompt": HARMLESS, "max_tokens": 1, "echo": True, "logprobs": 1}
        found = gateway.client.post("/v1/completions", json=body).json()["choices"][0]
        assert found["finish_reason"] == "content_filter"
        assert found["logprobs"] is None


def test_a_seed_gives_one_reply_and_choices_differ(watch: Opener) -> None:
    with watch("allow", "allow") as gateway:
        sampling = {"temperature": 1.5, "seed": 7, "n": 3}
        first, second = (gateway.chat(HARMLESS, **sampling)["choices"] for _ in range(2))
        assert first == second
        assert len({choice["message"]["content"] for choice in first}) > 1
