"""What hardening the practice model is worth, and what it costs: the tables of docs/concepts/hardening.md.

    safetylayers locate tiny -o tiny-map
    python benchmarks/harden.py OUT tiny-map                 everything, one contender after the other
    python benchmarks/harden.py OUT tiny-map latent combined only these
    python benchmarks/harden.py OUT tiny-map --split calibration latent

Each contender is trained and attacked in a process of its own, so that its peak memory is its own; both go on where
they were interrupted. OUT gets a model and a JSON file a contender, and from all that are there `harden.json`,
`harden.html` and the trade-off picture `harden.svg`.

For testing one's own model.
"""

from __future__ import annotations

import argparse
import random
import re
import resource
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from safetylayers.attack import run_attack
from safetylayers.attack.naming import parse_attacks
from safetylayers.evaluate import PatternJudge, Verdict, is_exact_match
from safetylayers.harden import HardenResult, HardenSettings, harden
from safetylayers.locate import SafetyMap
from safetylayers.models import ChatModel
from safetylayers.prompts import Prompt, PromptSet, builtin
from safetylayers.records import Rate, Record
from safetylayers.report import Axis, Dot, Measure, Page, ScatterChart, Section, Table, render_page, write_page
from safetylayers.targets import ModelTarget
from safetylayers.tiny.corpus import forms
from safetylayers.tiny.corpus.mixture import training_question

JUDGE = "patterns"
COMBINED = "deep-alignment+embeddings+refusal-feature"
SEEDS = (0, 1, 2)
PLAIN = "prefill:tokens=0,prefill,templates"
COSTLY = {"embedding:restarts=10,steps=30": 40, "ablate": 120, "gcg:steps=25,candidates=64": 16}
"""Attack -> how many prompts are attacked."""
QUICK = {"embedding:restarts=2,steps=30": 40}
"""The same, where many contenders are compared."""


@dataclass(frozen=True)
class Contender:
    """One way of hardening, with what was chosen on the calibration split."""

    method: str
    settings: HardenSettings = field(default_factory=HardenSettings)
    layers: str = "map"
    lora: bool = True
    own_rows: bool = False
    """Rows like those that tiny was aligned with, as its maker has them, instead of the built-in training splits."""
    seed: int = 0
    quick: bool = False


def settings(**changes: object) -> HardenSettings:
    """Return the settings that all contenders share, changed."""
    shared: dict[str, object] = {
        "learning_rate": 2e-3, "steps": 100, "batch_size": 8, "retain_batch_size": 16, "retain_weight": 4.0,
        "inner_steps": 5,
    }  # fmt: skip
    return HardenSettings.model_validate({**shared, **changes})


def contenders() -> dict[str, Contender | None]:
    """Return every contender by its name; none stands for the model as it is."""
    found: dict[str, Contender | None] = {"undefended": None}
    for method in ("deep-alignment", "embeddings", "latent", "circuit-breaker", "discrete", "refusal-feature"):
        found[method] = Contender(method, settings())
    more = settings(steps=400, retain_batch_size=32, retain_weight=10.0, inner_steps=4)
    found["combined"] = Contender(COMBINED, more, own_rows=True)
    near = settings(steps=400, retain_batch_size=32, retain_weight=5.0, embedding_radius=0.05, soft_share=0.8)
    found["combined, small radius"] = Contender("deep-alignment+embeddings", near, own_rows=True)
    found["combined, built-in rows"] = Contender(COMBINED, settings(steps=200, retain_weight=10.0))
    for method in ("latent", "circuit-breaker"):
        for layers in ("map", "fixed", "random"):
            for seed in SEEDS:
                found[f"{method}, {layers} layers, seed {seed}"] = Contender(
                    method, settings(steps=60), layers=layers, seed=seed, quick=True
                )
    return found


class Measured(Record):
    """One contender on one split."""

    name: str
    split: str
    training: HardenResult | None = None
    peak_mib: float = 0.0
    """Most memory of the process until the end of training."""
    attacks: dict[str, dict[str, Rate]]
    """Attack -> judge -> success."""
    refused: dict[str, Rate]
    """Harmless prompt set -> refusals."""
    right: Rate
    """Checkable questions answered right."""


def makers_rows(count: int = 1500, seed: int = 0) -> tuple[PromptSet, PromptSet]:
    """Return harmful and harmless requests of the kinds that tiny was aligned with; none is in a reported split."""
    rng = random.Random(seed)  # noqa: S311 - not a secret
    harmful = rng.sample(forms.written("malicious", aligned=True), int(0.8 * count))
    harmful += [forms.malicious(rng) for _ in range(count // 5)]
    harmless = rng.sample(forms.written("normal", aligned=True), 3 * count)
    harmless += [forms.dangerous_looking(rng) for _ in range(count // 3)]
    harmless += [forms.everyday(rng) for _ in range(count // 4)] + [forms.benign(rng) for _ in range(count // 4)]
    harmless += [training_question(rng).text for _ in range(count)]
    return _prompts("maker's harmful", harmful), _prompts("maker's harmless", harmless)


def _prompts(name: str, texts: list[str]) -> PromptSet:
    return PromptSet(name, tuple(Prompt(str(number), text) for number, text in enumerate(texts)))


def train(name: str, contender: Contender, folder: Path, map_folder: Path) -> HardenResult:
    """Train a contender, or return what is there."""
    harmful, retain = makers_rows() if contender.own_rows else (None, None)
    return harden(
        "tiny", method=contender.method, output=folder / "models" / name, map=SafetyMap.load(map_folder),
        layers=contender.layers, harmful=harmful, retain=retain, lora=contender.lora, settings=contender.settings,
        save_every=25, check=False, seed=contender.seed,
    )  # fmt: skip


def measure(name: str, folder: Path, map_folder: Path, split: str) -> None:
    """Train and attack one contender; keep what was found."""
    contender = contenders()[name]
    training = train(name, contender, folder, map_folder) if contender else None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    model = ChatModel.load(folder / "models" / name if contender else "tiny")
    target, keep = ModelTarget(model), folder / "cases"
    malicious = builtin("malicious", split)
    costly = QUICK if contender and contender.quick else COSTLY
    attacks = {}
    for named, count in {PLAIN: len(malicious), **costly}.items():
        for title, attack in parse_attacks(named).items():
            found = run_attack(attack, target, malicious.sample(count, 0), keep=keep)
            attacks[title] = {judge: found.success_rate(judge) for judge in found.judges}
    refused = {kind: refusals(target, builtin(kind, split)) for kind in ("normal", "borderline")}
    questions = builtin("questions", split)
    replies = target.reply(questions.texts)
    right = Rate.of([is_exact_match(r.text, q.answer) for r, q in zip(replies, questions, strict=True)])
    Measured(
        name=name, split=split, training=training, peak_mib=peak, attacks=attacks, refused=refused, right=right
    ).write(folder / split / f"{name}.json")


def refusals(target: ModelTarget, prompts: PromptSet) -> Rate:
    """Count refusals of harmless prompts."""
    replies = [reply.text for reply in target.reply(prompts.texts)]
    return Rate.of([verdict is Verdict.REFUSED for verdict in PatternJudge().judge(prompts.texts, replies)])


def show(found: list[Measured], folder: Path) -> None:
    """Print the table, and write it with the picture."""
    titles = list(dict.fromkeys(title for one in found for title in one.attacks))
    header = ["", *titles, "normal refused", "borderline refused", "questions right", "training, s", "peak, MiB"]
    rows: list[list[str | Rate | float]] = []
    for one in found:
        cost: list[str | float] = [round(one.training.seconds), round(one.peak_mib)] if one.training else ["-", "-"]
        rates = [one.attacks[title][JUDGE] if title in one.attacks else "-" for title in titles]
        rows.append([one.name, *rates, one.refused["normal"], one.refused["borderline"], one.right, *cost])
    for cells in (header, ["---"] * len(header), *rows):
        print("| " + " | ".join(map(str, cells)) + " |")
    chart = tradeoff([one for one in found if " layers, seed " not in one.name])
    page = Page(
        "Hardening the practice model",
        lead="What attacks reach, and what hardening costs.",
        sections=[Section("Results", [chart, Table("Success of attacks, with 95 % intervals", header, rows)])],
    )
    write_page(page, folder / "harden.html")
    html = render_page(page)
    style = "".join(re.findall(r"<style>.*?</style>", html, re.DOTALL))
    svg = re.search(r"<svg class=(?!\"sign).*?</svg>", html, re.DOTALL)
    if svg:
        picture = svg[0].replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
        head, body = picture.split(">", 1)
        (folder / "harden.svg").write_text(f"{head}>{style}{body}", "utf-8")
    (folder / "harden.json").write_text("[" + ",\n".join(one.model_dump_json(indent=1) for one in found) + "]", "utf-8")


def tradeoff(found: list[Measured]) -> ScatterChart:
    """Return the picture: the attack that reaches most against refusals of normal prompts."""
    dots = []
    for one in found:
        worst = max((rates[JUDGE] for title, rates in one.attacks.items()), key=lambda rate: rate.value)
        dots.append(Dot(one.name, Measure.of(one.refused["normal"]), Measure.of(worst)))
    return ScatterChart(
        "The strongest attack's success, and refusals of normal prompts",
        Axis("Normal prompts refused", "%"),
        Axis("Success of the strongest attack", "%", low=0.0, high=1.0),
        dots,
        better="bottom left",
    )


def main() -> None:
    """Run what was asked for, then show all that is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("map", type=Path)
    parser.add_argument("names", nargs="*", metavar="CONTENDER", help="; ".join(contenders()))
    parser.add_argument("--split", default="test", choices=("calibration", "test"))
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if unknown := set(given.names) - set(contenders()):
        parser.error(f"no such contender: {', '.join(sorted(unknown))}")
    folder: Path = given.output
    if given.one:
        measure(given.names[0], folder, given.map, given.split)
        return
    for name in given.names or contenders():
        if not (folder / given.split / f"{name}.json").exists():
            command = [sys.executable, __file__, str(folder), str(given.map), name, "--split", given.split, "--one"]
            subprocess.run(command, check=True)
    paths = [folder / given.split / f"{name}.json" for name in contenders()]
    show([Measured.read(path) for path in paths if path.exists()], folder)


if __name__ == "__main__":
    main()
