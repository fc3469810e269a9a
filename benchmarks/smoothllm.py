"""What perturbing requests is worth on the practice model, and what it costs: docs/concepts/perturbation.md.

    safetylayers locate tiny -o tiny-map
    python benchmarks/smoothllm.py OUT tiny-map                        everything, on the test splits
    python benchmarks/smoothllm.py OUT tiny-map --split calibration    the same where settings are chosen
    python benchmarks/smoothllm.py OUT tiny-map --only speed           only: speed, attacks, a defence's name
    python benchmarks/smoothllm.py OUT2 hardened-map --model hardened --attacks gcg    another model, with its own map

Attacks are made against the bare model, and what they made is then asked through each defence: the attacker does not
know the defence. Attacks and defences are kept in OUT one by one, and the same command goes on from them.

For testing one's own model.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from safetylayers.attack import Attack, Templates, run_attack
from safetylayers.attack.gcg import Gcg
from safetylayers.evaluate import PatternJudge, Verdict
from safetylayers.harden.perturb import EraseAndCheck, SmoothLLM, through
from safetylayers.locate import SafetyMap
from safetylayers.models import ChatModel
from safetylayers.prompts import builtin
from safetylayers.records import Rate, Record
from safetylayers.targets import ModelTarget, Target

JUDGE = PatternJudge()
SEED = 0
ALL, FEW = 120, 40
"""Prompts of attacks; fewer where a search is made for each."""
SMOOTH = "smoothllm:copies=10,rate=0.1,kind=patch"
DEFENCES: dict[str, tuple[str, ...]] = {
    "none": (),
    "smoothllm": (SMOOTH,),
    "smoothllm, four in five": (SMOOTH + ",threshold=0.8",),
    "smoothllm, swap": ("smoothllm:copies=10,rate=0.1,kind=swap",),
    "perplexity": ("perplexity:window=10,false_positives=0.02",),
    "retokenise": ("retokenise:rate=0.2",),
    "erase-and-check": ("erase-and-check:mode=suffix,tokens=20",),
    "erase-and-check, insertion": ("erase-and-check:mode=insertion,tokens=5",),
    "perplexity, smoothllm": (SMOOTH, "perplexity:window=10,false_positives=0.02"),
}
"""Name -> what the model is put behind, the innermost first."""


class Defended(Record):
    """One defence, measured."""

    name: str
    through: tuple[str, ...]
    attacked: dict[str, Rate]
    """Attack -> how often the model complied with what the attack had made."""
    malicious: Rate
    """Malicious requests, as they are, that were complied with."""
    normal: Rate
    """Normal requests that were refused."""
    borderline: Rate
    """Borderline requests that were refused."""
    incoherent: Rate
    """Normal requests that were answered with gibberish."""
    replies: float
    """Replies that were made for a normal request."""
    tokens: float
    """Tokens read and written for a normal request."""
    milliseconds: float
    """For a normal request, all of them at once."""
    certificate: str = ""


class Speed(Record):
    """Copies in one batch against one by one."""

    copies: int
    prompts: int
    batched: float
    """Seconds, the median of all turns."""
    one_by_one: float

    @property
    def ratio(self) -> float:
        """How many times as fast."""
        return self.one_by_one / self.batched


def attacks() -> dict[str, tuple[Attack, int]]:
    """Return the attacks by name, each with the number of prompts; settings are those of benchmarks/gcg.py."""
    return {
        "gcg": (Gcg(candidates=64, top_k=64, initial=" x"), FEW),
        "ten signs": (Gcg(initial=" !"), ALL),  # as a rule won before the first step
        "templates": (Templates(), ALL),
    }


def verdicts(target: Target, prompts: Sequence[str]) -> tuple[list[Verdict], list[int], list[int]]:
    """Ask; return what each reply does, and the replies and tokens behind it."""
    replies = target.reply(prompts)
    judged = JUDGE.judge(prompts, [reply.text for reply in replies])
    found = [Verdict.REFUSED if reply.withheld else each for reply, each in zip(replies, judged, strict=True)]
    return found, [reply.queries for reply in replies], [reply.tokens for reply in replies]


def rate(found: Sequence[Verdict], wanted: Verdict) -> Rate:
    """Return how many verdicts are the wanted one."""
    return Rate.of([verdict is wanted for verdict in found])


def measure(name: str, target: ModelTarget, found: SafetyMap, split: str, made: dict[str, list[str]]) -> Defended:
    """Put the model behind a defence, and ask everything."""
    defended: Target = target
    for text in DEFENCES[name]:
        defended = through(text, defended, map=found, seed=SEED)
    malicious, _, _ = verdicts(defended, builtin("malicious", split).texts)
    borderline, _, _ = verdicts(defended, builtin("borderline", split).texts)
    texts = builtin("normal", split).texts
    began = time.perf_counter()
    normal, queries, tokens = verdicts(defended, texts)
    seconds = time.perf_counter() - began
    sure = defended.certificate(builtin("malicious", split).texts) if isinstance(defended, EraseAndCheck) else None
    return Defended(
        name=name,
        through=DEFENCES[name],
        attacked={title: rate(verdicts(defended, asked)[0], Verdict.COMPLIED) for title, asked in made.items()},
        malicious=rate(malicious, Verdict.COMPLIED),
        normal=rate(normal, Verdict.REFUSED),
        borderline=rate(borderline, Verdict.REFUSED),
        incoherent=rate(normal, Verdict.INCOHERENT),
        replies=statistics.mean(queries),
        tokens=statistics.mean(tokens),
        milliseconds=1000 * seconds / len(texts),
        certificate=sure.statement if sure else "",
    )


def measure_speed(target: ModelTarget, copies: int = 10, prompts: int = 12, turns: int = 3) -> Speed:
    """Time all copies of all prompts at once, and one copy after the other; the same copies both times."""
    smooth = SmoothLLM(target, copies=copies, seed=SEED)
    texts = builtin("normal", "calibration").texts[:prompts]

    def one_by_one() -> None:
        for text in texts:
            for copy in smooth.copies_of(text):
                target.reply([copy])

    def timed(work: Callable[[], object]) -> float:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    smooth.reply(texts[:1])  # what is loaded at the first call
    pairs = [(timed(lambda: smooth.reply(texts)), timed(one_by_one)) for _ in range(turns)]
    return Speed(
        copies=copies,
        prompts=prompts,
        batched=statistics.median(batched for batched, _ in pairs),
        one_by_one=statistics.median(single for _, single in pairs),
    )


def table(rows: Sequence[Defended]) -> str:
    """Return the results as a Markdown table."""
    titles = list(rows[0].attacked)
    head = [
        "defence", *titles, "malicious complied", "normal refused", "borderline refused", "replies", "tokens",
        "ms",
    ]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [
            row.name, *(str(row.attacked[title]) for title in titles), str(row.malicious), str(row.normal),
            str(row.borderline), f"{row.replies:.3g}", f"{row.tokens:.0f}", f"{row.milliseconds:.0f}",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Read the command line, measure what is missing, print what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("map", type=Path)
    parser.add_argument("--split", choices=("calibration", "test"), default="test")
    parser.add_argument("--only", action="append", help="speed, attacks, or the name of a defence; repeatable")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--attacks", nargs="+", default=list(attacks()), choices=list(attacks()))
    given = parser.parse_args()
    wanted = given.only or ["speed", *DEFENCES]
    target, found = ModelTarget(ChatModel.load(given.model)), SafetyMap.load(given.map)
    if "speed" in wanted:
        speed = measure_speed(target)
        speed.write(given.out / "speed.json")
        print(
            f"{speed.copies} copies of {speed.prompts} prompts, {torch.get_num_threads()} thread: "
            f"{speed.batched:.2f} s in one batch, {speed.one_by_one:.2f} s one by one: {speed.ratio:.1f} times as fast"
        )
    if wanted == ["speed"]:
        return
    made = {}
    for title, (attack, count) in ((title, attacks()[title]) for title in given.attacks):
        prompts = builtin("malicious", given.split).take(count)
        result = run_attack(attack, target, prompts, seed=SEED, keep=given.out / "cases")
        made[title] = [case.attacked for case in result.cases]
    for name in (name for name in wanted if name in DEFENCES):
        path = given.out / given.split / f"{name.replace(', ', '-')}.json"
        if not path.exists():
            measure(name, target, found, given.split, made).write(path)
        print(f"{name}: done", flush=True)
    rows = [Defended.read(path) for path in sorted((given.out / given.split).glob("*.json"))]
    if rows:
        order = list(DEFENCES)
        rows.sort(key=lambda row: order.index(row.name))
        print(table(rows))
        print("\n".join(f"{row.name}: {row.certificate}" for row in rows if row.certificate))


if __name__ == "__main__":
    main()
