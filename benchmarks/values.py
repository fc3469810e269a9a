"""What value learning finds of values that were planted, and of real people's choices: docs/concepts/values.md.

    python benchmarks/values.py                        everything on the planted world; half an hour on two cores
    python benchmarks/values.py --only active          only: reward, weights, active
    python benchmarks/values.py --hh FOLDER            choices of hh_rlhf's harmless-base test (test.jsonl.gz)
    python benchmarks/values.py --llmbar FOLDER --hh FOLDER --pandalm FOLDER
                                                       learned from either of the last two, tested on LLMBar

The planted world (`safetylayers.tiny.choices`) has requests with several replies, whose worth in four values is known;
a planted reward makes choices, noisily. Settings were chosen with seeds that are not reported.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from safetylayers.align.accuracy import by_group
from safetylayers.align.ask.active import STRATEGIES, label_curve
from safetylayers.align.baselines import baselines, transferred_baselines
from safetylayers.align.bayes import Array
from safetylayers.align.distance import epic_distance
from safetylayers.align.evaluation import evaluate_reward, fresh
from safetylayers.align.features import Read, read_pairs
from safetylayers.align.folds import right
from safetylayers.align.modelling import RewardModel, train_reward_model
from safetylayers.align.reading import Reading
from safetylayers.align.reward import learn_reward
from safetylayers.align.weights import infer_weights
from safetylayers.errors import DataError
from safetylayers.models import ChatModel
from safetylayers.prompts import PairSet
from safetylayers.prompts.pairs import Pair, read_pair
from safetylayers.prompts.table import Row
from safetylayers.records import Estimate, Rate
from safetylayers.stats import bootstrap_mean
from safetylayers.tiny.choices import VALUES, WEIGHTS, Request, choose
from safetylayers.tiny.choices import requests as drawn_requests

requests = partial(drawn_requests, placeholders=True)
LAYERS = (5, 6)
"""Of the ten; the map's own, 0 and 1, are shown beside them."""
SEEDS = range(5)
BUDGETS = [*range(10, 200, 10), *range(200, 601, 50)]


def worths(asked: Sequence[Request], pairs: PairSet) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return the planted worth in each value of the chosen and of the rejected replies."""
    known = {(request.text, reply.text): reply.worth for request in asked for reply in request.replies}
    chosen = {name: [known[pair.prompt, pair.chosen][name] for pair in pairs] for name in VALUES}
    return chosen, {name: [known[pair.prompt, pair.rejected][name] for pair in pairs] for name in VALUES}


def gaps(asked: Sequence[Request], pairs: PairSet) -> Array:
    """Return by how much the planted reward prefers each chosen reply."""
    chosen, rejected = worths(asked, pairs)
    return np.asarray(sum(WEIGHTS[n] * (np.array(chosen[n]) - np.array(rejected[n])) for n in VALUES))


def decided(asked: Sequence[Request], pairs: PairSet) -> PairSet:
    """Leave out choices between replies that the planted reward takes for equal: nothing can tell those."""
    kept = zip(pairs, gaps(asked, pairs), strict=True)
    return PairSet(pairs.name, tuple(pair for pair, gap in kept if gap != 0))


def worlds(count: int, other: int) -> tuple[list[Request], list[Request]]:
    """Return requests to learn from, and others of which none is among them."""
    test = requests(other, seed=1)
    reserved = {request.text for request in test}
    return [request for request in requests(count, seed=0) if request.text not in reserved], test


def reward_table(model: ChatModel) -> None:
    """Show how near learned rewards come to the planted one."""
    asked, test = worlds(3000, 1000)
    held_out = decided(test, choose(test, seed=1))
    turns, prompts, said, truth = [], [], [], []
    for number, request in enumerate(test):
        for reply in request.replies:
            turns.append(({"role": "user", "content": request.text},))
            prompts.append(number)
            said.append(reply.text)
            truth.append(reply.reward(WEIGHTS))
    place = {(turn[0]["content"], text): row for row, (turn, text) in enumerate(zip(turns, said, strict=True))}
    chosen, rejected = (
        [place[pair.prompt, text] for pair, text in zip(held_out, texts, strict=True)]
        for texts in ([pair.chosen for pair in held_out], [pair.rejected for pair in held_out])
    )

    def show(name: str, scores: Array) -> None:
        right = Rate.of([bool(gap > 0) for gap in scores[chosen] - scores[rejected]])
        print(f"| {name} | {right} | {epic_distance(scores, truth, prompts):.3f} |", flush=True)

    pairs = decided(asked, choose(asked, seed=0))
    print(f"{len(pairs)} choices to learn from, {len(held_out)} held out, none of them between equals")
    print("| reward | held-out choices right | EPIC distance |\n| --- | --- | --- |")
    show("the planted one", np.array(truth))
    for name, layers in (("layers 5 and 6", LAYERS), ("the map's layers", (0, 1))):
        reward = learn_reward(model, pairs, layers=layers).reward
        show(f"Bayesian, {name}", reward.judge(model, turns, said).total().mean)
    with tempfile.TemporaryDirectory() as folder:
        train_reward_model(
            model, pairs, output=Path(folder) / "model", lora_rank=0, learning_rate=1e-3, steps=400, batch_size=16,
            max_length=128,
        )  # fmt: skip
        show("reward model, all weights", RewardModel.load(Path(folder) / "model").scores(turns, said)[:, 0])
    for seed in range(3):
        coins = decided(asked, choose(asked, seed=seed, shuffled=True))
        found = learn_reward(model, coins, layers=LAYERS).reward.judge(model, turns, said).total().mean
        show(f"Bayesian, from shuffled choices {seed}", found)
    show("random", np.random.default_rng(0).standard_normal(len(truth)))


def weights_table(draws: int = 20) -> None:
    """Show how often planted weights lie within their intervals."""
    inside = []
    for draw in range(draws):
        asked = requests(600, seed=100 + draw)
        found = infer_weights(*worths(asked, choose(asked, seed=draw))).weights
        inside += [found[name].low <= weight <= found[name].high for name, weight in WEIGHTS.items()]
    print(f"planted weights within their 95 % intervals: {Rate.of(inside)}")


def active_table(model: ChatModel) -> None:
    """Show how many labels each strategy needs for nine tenths of the full data's accuracy."""
    needed: dict[str, list[int]] = {name: [] for name in STRATEGIES}
    for seed in SEEDS:
        asked, test = requests(1200, seed=200 + seed), requests(600, seed=300 + seed)
        pool, held_out = (decided(of, choose(of, seed=seed)) for of in (asked, test))
        chosen, rejected = read_pairs(model, pool, layers=LAYERS)
        test_chosen, test_rejected = read_pairs(model, held_out, layers=LAYERS)
        every = Read(np.concatenate([chosen.states, rejected.states]), np.concatenate([chosen.tokens, rejected.tokens]))
        reading = Reading.fit(every, components=64)
        scale = np.sqrt(reading.spread / reading.spread[0])
        first, second, test_first, test_second = (
            reading.read(one.states) * scale for one in (chosen, rejected, test_chosen, test_rejected)
        )
        full = label_curve("random", first - second, test_first - test_second, [len(pool)], seed=seed)[0]
        for name, found in needed.items():
            curve = label_curve(name, first - second, test_first - test_second, BUDGETS, seed=seed)  # type: ignore[arg-type]
            found.append(next((b for b, a in zip(BUDGETS, curve, strict=True) if a >= 0.9 * full), BUDGETS[-1]))
        print(f"seed {seed}: full {full:.3f}, { ({name: found[-1] for name, found in needed.items()}) }", flush=True)
    random = np.array(needed["random"], dtype=float)
    for name, found in needed.items():
        ratio = np.array(found) / random.mean()
        low, high = bootstrap_mean(ratio)
        print(f"{name}: {Estimate.of(found).mean:.0f} labels, {ratio.mean():.2f} [{low:.2f}, {high:.2f}] of random's")


def people_table(model: ChatModel, folder: Path) -> None:
    """Show what is learned of real people's choices, in five parts."""
    pairs = read_hh(folder)
    print(f"{len(pairs)} pairs; five parts, each judged by a reward that has seen the others' prompts only")
    print("| read | right | calibration error |\n| --- | --- | --- |")
    for layers in ((0, 1), LAYERS, (8, 9)):
        known = learn_reward(model, pairs, layers=layers).reward.record.values["overall"]
        print(f"| layers {layers} | {known.accuracy} | {known.calibration:.3f} |", flush=True)
    for name, rate in baselines(pairs).items():
        print(f"| {name} alone | {rate} | |")


def read_hh(folder: Path) -> PairSet:
    """Read the pairs; rows that hold no choice are left out, and counted."""
    kept, left_out = [], 0
    with gzip.open(folder / "test.jsonl.gz", "rt", encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                kept.append(read_pair(Row(f"line {number}", json.loads(line))))
            except DataError:
                left_out += 1
    print(f"{left_out} rows without two different replies to one conversation are left out")
    return PairSet("hh_rlhf harmless-base test", tuple(kept))


def read_llmbar(folder: Path) -> PairSet:
    """Read LLMBar: which of two outputs follows an instruction, by subset."""
    kept = []
    for path in sorted(folder.rglob("dataset.json")):
        for row in json.loads(path.read_text("utf-8")):
            outputs = [row["output_1"], row["output_2"]]
            chosen, rejected = outputs if row["label"] == 1 else reversed(outputs)
            kept.append(replace(Pair.of(row["input"], chosen, rejected), category=path.parent.name))
    return PairSet("LLMBar", tuple(kept))


def read_pandalm(folder: Path) -> PairSet:
    """Read PandaLM's test: two replies to an instruction; what most of three people chose, ties left out."""

    def choices() -> Iterator[Pair]:
        for row in json.loads((folder / "testset-v1.json").read_text("utf-8")):
            votes = [int(row[f"annotator{number}"]) for number in (1, 2, 3)]
            said = [str(row[name]).strip() for name in ("response1", "response2")]
            winner = next((number for number in (1, 2) if votes.count(number) > 1), 0)
            if winner and all(said) and said[0] != said[1]:
                chosen, rejected = said if winner == 1 else reversed(said)
                yield Pair.of("\n\n".join(filter(None, (row["instruction"], row["input"]))), chosen, rejected)

    return PairSet("PandaLM", tuple(choices()))


def llmbar_table(model: ChatModel, learned: PairSet, test: PairSet) -> None:
    """Show what a reward of other people's choices makes of LLMBar, beside length and words."""
    reward = learn_reward(model, learned, layers=LAYERS).reward
    known = reward.record.values["overall"]
    found = evaluate_reward(reward, model, test, learned=learned)
    kept = fresh(test, reward.prompts, reward.posteriors)
    subsets = [pair.category for pair in kept.pairs]
    print(f"\n{len(learned)} choices of {learned.name}, of which, held out, {known.accuracy} are told right")
    alone = ", ".join(f"{name} alone {rate}" for name, rate in known.baselines.items())
    print(f"held out: calibration error {known.calibration:.3f}, {alone}")
    print(f"on LLMBar: calibration error {found.calibration:.3f}, unfamiliar {found.unfamiliar}, {kept.seen} left out")
    print(f"| judge | all | {' | '.join(found.categories)} |\n| --- | --- |{' --- |' * len(found.categories)}")
    print(f"| reward | {found.accuracy} | {' | '.join(map(str, found.categories.values()))} |")
    for name, p_N in transferred_baselines(learned, kept.pairs).items():
        print(f"| {name} alone | {right(p_N)} | {' | '.join(map(str, by_group(p_N, subsets).values()))} |", flush=True)


def main() -> None:
    """Read the command line, and show what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("reward", "weights", "active"))
    parser.add_argument("--hh", type=Path)
    parser.add_argument("--pandalm", type=Path)
    parser.add_argument("--llmbar", type=Path)
    given = parser.parse_args()
    model = ChatModel.load("tiny")
    if given.llmbar:
        learned = [read(folder) for read, folder in ((read_pandalm, given.pandalm), (read_hh, given.hh)) if folder]
        for pairs in learned:
            llmbar_table(model, pairs, read_llmbar(given.llmbar))
        return
    if given.hh:
        people_table(model, given.hh)
        return
    if given.only in (None, "weights"):
        weights_table()
    if given.only in (None, "reward"):
        reward_table(model)
    if given.only in (None, "active"):
        active_table(model)


if __name__ == "__main__":
    main()
