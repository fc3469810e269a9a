"""Pairs whose scores come of planted weights, for audits."""

from __future__ import annotations

import numpy as np

from safetylayers.align.audit import Method, Said, Samples, Scored, ValueAudit, infer
from safetylayers.align.bayes import Array
from safetylayers.prompts import Prompt, PromptSet
from safetylayers.records import Provenance

PLANTED = np.array([1.0, -0.5, 0.0])
NAMES = ("kind", "brief", "idle")
BAYESIAN: list[Method] = ["preference", "log-ratio"]
ALL: list[Method] = [*BAYESIAN, "max-margin"]


def asked(count: int) -> PromptSet:
    return PromptSet("asked", tuple(Prompt(str(number), f"What is {number}?") for number in range(count)))


class World:
    """The base's scores are normal around each prompt's own mean, so those of what maximises w . scores are as well,
    w further on; the log-ratio is w . scores less a shift a prompt."""

    def __init__(self, weights: Array, *, seed: int, prompts: int = 80, replies: int = 3, noise: float = 0.0) -> None:
        rng = np.random.default_rng(seed)
        said = (Said("a", "a"),) * (prompts * replies)
        place = np.repeat(np.arange(prompts), replies)
        self.samples = Samples(asked(prompts), replies, place, said, said, 0)
        around_NV = rng.normal(0, 3, (prompts, len(weights)))[place]
        self.scores = np.stack([around_NV + weights, around_NV]) + rng.standard_normal((2, len(place), len(weights)))
        shift_N = rng.normal(0, 5, prompts)[place]
        self.ratios = self.scores @ weights + shift_N + noise * rng.standard_normal((2, len(place)))

    def infer(self, method: Method, scores: Array | None = None, ratios: Array | None = None) -> ValueAudit:
        score_2NV = self.scores if scores is None else scores
        found = dict(zip(NAMES, score_2NV.reshape(-1, score_2NV.shape[-1]).T, strict=False))
        known = self.ratios if ratios is None else ratios
        return infer(self.samples, Scored(found), provenance(), base=("base", "b"), method=method, ratios=known)


def provenance() -> Provenance:
    return Provenance(model="model", model_hash="m", seed=0)


def width(record: ValueAudit, name: str = "kind") -> float:
    return record.weights[name].high - record.weights[name].low
