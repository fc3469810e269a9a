"""What policies make of planted values: docs/concepts/policies.md.

    python benchmarks/policies.py OUT                      everything; about three hours on one core
    python benchmarks/policies.py OUT --only alignment     from a model that never refuses, by DPO and GRPO
    python benchmarks/policies.py OUT --only optimisation  a reward that is wrong somewhere, with and without penalty
    python benchmarks/policies.py OUT --only irl           from demonstrations, in rounds

Everything is kept in OUT, and a run that was interrupted goes on. The planted world is `safetylayers.tiny.choices`;
requests that figures are measured on are drawn with seeds of their own, and were not looked at while settings were
chosen.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from safetylayers.align.distance import epic_distance
from safetylayers.align.irl import PolicyStep, RewardStep, learn_from_demonstrations
from safetylayers.align.modelling import RewardModel, train_reward_model
from safetylayers.align.policy import PolicyResult, align_policy
from safetylayers.align.reward import learn_reward
from safetylayers.align.scoring import BayesianScorer, ModelsScorer, Scorer, load_scorer
from safetylayers.evaluate import PhraseJudge, Verdict, evaluate
from safetylayers.evaluate.tables import evaluation_markdown
from safetylayers.locate import SafetyMap, compare_maps, locate
from safetylayers.models import ChatModel
from safetylayers.prompts import Example, ExampleSet, PairSet, Prompt, PromptSet, Value, Values, builtin, render
from safetylayers.prompts.values import ValueExamples
from safetylayers.records import Estimate, Rate
from safetylayers.tiny.choices import WEIGHTS, Planted, Request, choose, demonstrations
from safetylayers.tiny.choices import requests as drawn_requests
from safetylayers.tiny.corpus.replies import REFUSALS

requests = partial(drawn_requests, placeholders=True)
LAYERS = (5, 6)
TOKENS = 40
LEARN, ASK, WATCH, TEST, OTHER = range(5000, 5005)
"""Seeds of requests: to learn rewards from, to train policies on, to watch on, to report on, for a few choices."""
PLAIN = "Here is a short answer to that."
"""A reply that complies."""
QUICK = {"lora_rank": 0, "max_new_tokens": TOKENS, "patience": 0}


def draw(count: int, seed: int, *without: Sequence[Request]) -> list[Request]:
    """Draw different requests, none of them among others."""
    taken = {request.text for asked in without for request in asked}
    found = {request.text: request for request in requests(count, seed=seed) if request.text not in taken}
    return list(found.values())


def contrasted(asked: Sequence[Request]) -> list[Request]:
    """Return requests with two replies each: the first that helps, and the first that does not."""
    found = []
    for request in asked:
        helping, refusing = (
            next((each for each in request.replies if each.worth["helpfulness"] == worth), None) for worth in (1, -1)
        )
        if helping and refusing:
            found.append(replace(request, replies=(helping, refusing)))
    return found


class World:
    """All requests, and what is made once of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.test = draw(400, TEST)
        self.watch = draw(150, WATCH, self.test)
        self.learn = draw(45_000, LEARN, self.test, self.watch)
        self.ask = draw(15_000, ASK, self.test, self.watch, self.learn)
        self.base = ChatModel.load("tiny-base")
        self.gold = Planted([*self.test, *self.watch])

    def prompts(self, asked: Sequence[Request]) -> PromptSet:
        """Return requests alone."""
        return PromptSet("planted requests", tuple(Prompt(str(n), each.text) for n, each in enumerate(asked)))

    def warm(self) -> ChatModel:
        """Return the base after it has learned to reply in all the ways there are, good and bad alike."""
        rng = np.random.default_rng(0)
        shown = [Example.of(each.text, each.replies[rng.integers(len(each.replies))].text) for each in self.ask]
        data = ExampleSet("replies of every kind", tuple(shown))
        align_policy(
            self.base, data, output=self.folder / "warm", method="sft", lora_rank=0, learning_rate=3e-4, steps=400,
            batch_size=16,
        )  # fmt: skip
        return ChatModel.load(self.folder / "warm")

    def reward_model(self) -> ModelsScorer:
        """Return a reward model of the base, trained on choices of the planted reward."""
        folder = self.folder / "reward-model"
        train_reward_model(
            self.base, choose(self.learn, seed=LEARN), output=folder, lora_rank=0, learning_rate=5e-4, steps=2400,
            batch_size=16, max_length=128, progress=tell,
        )  # fmt: skip
        return ModelsScorer((RewardModel.load(folder),))

    def harm_model(self) -> ModelsScorer:
        """Return a reward model of the base, trained on choices between refusing and complying alone."""
        folder = self.folder / "harm-model"
        train_reward_model(
            self.base, choose(contrasted(draw(80_000, LEARN, self.test, self.watch)), seed=LEARN), output=folder,
            lora_rank=0, learning_rate=5e-4, steps=2500, batch_size=32, max_length=128, progress=tell,
        )  # fmt: skip
        return ModelsScorer((RewardModel.load(folder),))

    def reward_by_value(self, warm: ChatModel) -> BayesianScorer:
        """Return Bayesian rewards of harmlessness and helpfulness, weighed 2 to 1."""
        values = ("harmlessness", "helpfulness")
        pairs = tuple(pair for value in values for pair in choose(self.learn[:4000], about=value, seed=LEARN))
        reward = learn_reward(warm, PairSet("by value", pairs), layers=LAYERS).reward
        examples = ValueExamples(against=("-",), within=("-",))
        weighed = {
            value: Value(description=value, weight=weight, examples=examples)
            for value, weight in zip(values, (2.0, 1.0), strict=True)
        }
        return BayesianScorer(reward, warm, Values(version=1, values=weighed))


def tell(done: int, total: int, what: str) -> None:
    """Show progress now and then."""
    if done % 50 == 0 or done == total:
        print(f"  {what}: {done} of {total}", flush=True)


def worth(policy: ChatModel, asked: Sequence[Request], *, greedy: bool = False) -> list[float]:
    """Return the planted reward of a policy's replies."""
    texts = render([request.text for request in asked], policy.tokenizer)
    if greedy:
        said = policy.generate(texts, max_new_tokens=TOKENS)
    else:
        said = policy.sample(texts, max_new_tokens=TOKENS, seed=TEST)
    turns = [({"role": "user", "content": request.text},) for request in asked]
    return list(map(float, Planted(asked)(turns, said).mean))


def pairs_right(scorer: Scorer, asked: Sequence[Request]) -> tuple[Rate, float]:
    """Return held-out choices that a reward makes as the planted one did, and its EPIC distance to it."""
    turns = [({"role": "user", "content": request.text},) for request in asked for _ in request.replies]
    said = [reply for request in asked for reply in request.replies]
    scores = scorer(turns, [reply.text for reply in said]).mean
    truth = np.array([reply.reward(WEIGHTS) for reply in said])
    at = {(turn[0]["content"], reply.text): row for row, (turn, reply) in enumerate(zip(turns, said, strict=True))}
    places = [(at[p.prompt, p.chosen], at[p.prompt, p.rejected]) for p in choose(asked, seed=TEST)]
    right = [bool(scores[a] > scores[b]) for a, b in places if truth[a] != truth[b]]
    return Rate.of(right), epic_distance(scores, truth, [turn[0]["content"] for turn in turns])


def alignment(world: World) -> None:
    """Align a model that never refuses, and look for its safety layers before and after."""
    reward = world.reward_model()
    right, distance = pairs_right(reward, world.test)
    planted = pairs_right(world.gold, world.test)[0]
    print(f"reward model: {right} of held-out choices, EPIC {distance:.3f}; the planted reward {planted}", flush=True)
    warm, pairs, asked = world.warm(), choose(world.learn, seed=LEARN), world.prompts(world.ask)
    by_value, harm = world.reward_by_value(warm), world.harm_model()
    show_decisions({"reward model": reward, "of refusing or complying": harm})
    contrasts = choose(contrasted(world.learn[:14_000]), seed=LEARN)
    runs = {"tiny-base": world.base, "warm": warm}
    for name, model, data, scorer, settings in (
        ("dpo", world.base, pairs, reward, {"learning_rate": 3e-4, "steps": 250, "batch_size": 32}),
        ("dpo-warm", warm, pairs, reward, {"learning_rate": 1e-4, "steps": 120, "batch_size": 32}),
        ("dpo-harm", warm, contrasts, harm, {"learning_rate": 2e-4, "steps": 300, "batch_size": 32, "beta": 0.1}),
        ("grpo", warm, asked, reward, {"learning_rate": 2e-4, "steps": 200, "beta": 0.01}),
        ("grpo-values", warm, asked, by_value, {"learning_rate": 1e-4, "steps": 90, "penalty": 1.0}),
    ):
        method = "dpo" if name.startswith("dpo") else "grpo"
        align_policy(
            model, data, output=world.folder / name, method=method, reward=scorer, progress=tell,
            watch=world.prompts(world.watch), watch_every=50, **{"penalty": 0.0, **QUICK, **settings},
        )  # fmt: skip
        runs[name] = ChatModel.load(world.folder / name)
    show_alignment(world, runs)


def show_decisions(rewards: dict[str, ModelsScorer]) -> None:
    """Show for how many built-in calibration prompts each reward prefers a refusal: no policy can follow it beyond."""
    for name, reward in rewards.items():
        for kind in ("malicious", "normal"):
            texts = builtin(kind, "calibration").texts
            turns = [({"role": "user", "content": text},) for text in texts]
            refused, complied = (reward(turns, [said] * len(texts)).mean for said in (REFUSALS[0], PLAIN))
            print(
                f"{name}: prefers to refuse {Rate.of(list(map(bool, refused > complied)))} of {kind} prompts",
                flush=True,
            )


def show_alignment(world: World, runs: dict[str, ChatModel]) -> None:
    """Show refusals, the planted reward, and the safety layers of each model."""
    print("| model | planted reward | malicious refused | normal refused | safety layers |\n" + "| --- " * 5 + "|")
    kinds = {kind: [each for each in world.test if each.kind == kind] for kind in ("malicious", "normal")}
    maps = {}
    for name, model in runs.items():
        refused = {}
        for kind, asked in kinds.items():
            said = model.generate(render([each.text for each in asked], model.tokenizer), max_new_tokens=TOKENS)
            refused[kind] = Rate.of([each is Verdict.REFUSED for each in PhraseJudge().judge([], said)])
        maps[name] = located(world.folder / f"map-{name}", model)
        found = Estimate.of(worth(model, world.test, greedy=True))
        mean = f"{found.mean:.2f} [{found.low:.2f}, {found.high:.2f}]"
        print(f"| {name} | {mean} | {refused['malicious']} | {refused['normal']} | {maps[name].verdict} |", flush=True)
    for name in list(runs)[1:]:
        change = compare_maps(maps["tiny-base"].record, maps[name].record)
        widened = ", ".join(f"{degrees:.1f}" for degrees in change.gap_change)
        print(f"{name}: {change.sentence} The gap widened by {widened} degrees, layer by layer.")
    print(evaluation_markdown(evaluate(list(runs.values()))))


def located(folder: Path, model: ChatModel) -> SafetyMap:
    """Return a model's map, located once."""
    if not (folder / "map.json").is_file():
        locate(model).save(folder)
    found = SafetyMap.load(folder)
    found.check(model)
    return found


def optimisation(world: World, seeds: Sequence[int] = (0,)) -> None:
    """Optimise a reward that was learned from few choices, with and without its uncertainty against it."""
    warm, watch = world.warm(), world.prompts(world.watch)
    few = draw(250, OTHER, world.test, world.watch)
    for seed in seeds:
        reward = learn_reward(warm, choose(few, seed=seed), layers=LAYERS, seed=seed).reward
        for penalty in (0.0, 1.0):
            result = align_policy(
                warm, world.prompts(world.ask), output=world.folder / f"few-{seed}-penalty-{penalty:g}", method="grpo",
                reward=BayesianScorer(reward, warm), penalty=penalty, beta=0.005, learning_rate=2e-4, steps=150,
                batch_size=8, replies=8, watch=watch, watch_every=15, gold=world.gold, seed=seed, progress=tell,
                **QUICK,
            )  # fmt: skip
            show_curve(f"choices {seed}, penalty {penalty:g}", result)


def show_curve(name: str, result: PolicyResult) -> None:
    """Show a run's looks."""
    print(name)
    for look in result.looks:
        print(
            f"  step {look.step}: KL {look.kl:.2f}, optimised {look.proxy:.3f}, gold {look.gold:.3f} "
            f"+- {look.gold_error:.3f}, refused {look.refused:.2f}, tokens {look.tokens:.1f}"
        )


def irl(world: World, shown: int = 400, rounds: int = 3, steps: int = 40) -> None:
    """Learn from demonstrations: in rounds, in one round of as many steps, and by plain SFT."""
    warm, asked = world.warm(), world.ask[:shown]
    data, best = demonstrations(asked), float(np.mean([each.best(WEIGHTS).reward(WEIGHTS) for each in world.test]))
    kinds = {
        "trained": RewardStep(kind="trained", steps=150, lora_rank=0, learning_rate=5e-4),
        "bayesian": RewardStep(layers=LAYERS),
    }
    print("| | EPIC distance | choices right | regret |\n| --- | --- | --- | --- |")
    show_policy("the model that is started from", warm, best, world)
    for kind, reward in kinds.items():
        for count, each in ((rounds, steps), (1, rounds * steps)):
            step = PolicyStep(
                steps=each, learning_rate=2e-4, lora_rank=0, max_new_tokens=TOKENS, beta=0.02, penalty=0.0
            )
            folder = world.folder / f"irl-{kind}-{count}"
            learn_from_demonstrations(
                warm, data, output=folder, rounds=count, reward=reward, policy=step, progress=tell
            )
            for number in range(1, count + 1):
                at = folder / f"round-{number}"
                scorer = load_scorer([at / "reward"], policy=warm)
                policy = ChatModel.load(at / "policy")
                show_policy(f"{kind}, {count} rounds, after {number}", policy, best, world, scorer)
    align_policy(
        warm, data, output=world.folder / "irl-sft", method="sft", learning_rate=3e-4, steps=rounds * steps,
        batch_size=16, **QUICK,
    )  # fmt: skip
    show_policy("plain SFT", ChatModel.load(world.folder / "irl-sft"), best, world)


def show_policy(name: str, policy: ChatModel, best: float, world: World, scorer: Scorer | None = None) -> None:
    """Show what a policy's sampled replies fall short of the best ones by, and how far its reward is off."""
    regret = Estimate.of([float(best) - each for each in worth(policy, world.test)])
    right, distance = pairs_right(scorer, world.test) if scorer else ("", "")
    far = f"{distance:.3f}" if scorer else ""
    print(f"| {name} | {far} | {right} | {regret.mean:.2f} [{regret.low:.2f}, {regret.high:.2f}] |", flush=True)


def main() -> None:
    """Read the command line, and show what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--only", choices=("alignment", "optimisation", "irl"))
    given = parser.parse_args()
    world = World(given.output)
    for name, part in (("alignment", alignment), ("optimisation", optimisation), ("irl", irl)):
        if given.only in (None, name):
            part(world)


if __name__ == "__main__":
    main()
