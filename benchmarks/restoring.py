"""What brings the refusals of a broken practice model back, and at what loss: docs/robust-study.md.

    safetylayers locate tiny -o tiny-map
    python benchmarks/restoring.py OUT tiny-map
    python benchmarks/restoring.py OUT tiny-map --methods graft --seeds 0

The model is broken by all layers' fine-tuning on one attack's rows, as in `benchmarks/robust_finetune.py`. Layers and
strength are searched on the calibration split; the figures are on the test split and on task rows that neither the
fine-tune nor the search has seen. A case leaves a JSON file; what is there is not run again.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

import robust_finetune as study
from safetylayers.finetune import finetune
from safetylayers.finetune.restore import RestoreResult, restore
from safetylayers.locate import SafetyMap
from safetylayers.models import ChatModel
from safetylayers.records import Estimate, Record

METHODS = {
    "graft": {}, "graft, safety layers alone": {"shares": (0.0,)}, "graft, other layers": {"layers": (4, 5)},
    "graft, no task rows": {"task": False}, "resta": {}, "resta, drop 0.3": {"drop": 0.3}, "lox": {},
}  # fmt: skip
"""Name -> what differs from the defaults; "task": False stands for a search without rows of the task."""


class Restored(Record):
    """One repair of one broken model."""

    search: RestoreResult
    aligned: study.Case
    tuned: study.Case
    restored: study.Case
    seconds: float

    @property
    def gain_kept(self) -> float:
        """Share of the task's gain that is left, on rows that nothing has seen."""
        return (self.aligned.task_loss - self.restored.task_loss) / (self.aligned.task_loss - self.tuned.task_loss)


def broken(folder: Path, attack: str, seed: int) -> Path:
    """Return the folder of a model that an attack has broken; make it where there is none."""
    weights = folder / "broken" / f"{attack}_{seed}"
    strength = study.STRENGTH
    finetune(
        "tiny", study.attack_examples(attack, strength.rows, seed=seed), output=weights, method="full",
        learning_rate=strength.learning_rate, max_steps=strength.steps, batch_size=strength.batch_size, seed=seed,
    )  # fmt: skip
    return weights


def run_case(folder: Path, map_folder: Path, attack: str, name: str, seed: int) -> None:
    """Break, restore, measure, and keep what was found."""
    aligned, tuned = ChatModel.load("tiny"), ChatModel.load(broken(folder, attack, seed))
    found, given = SafetyMap.load(map_folder), METHODS[name]
    rows = study.attack_examples("normal" if attack == "harmful" else attack, 100, seed=20_000 + seed)
    given = {"task": rows, "seed": seed, **given} if given.get("task", True) else {"seed": seed}
    output = case_path(folder, attack, name, seed).with_suffix("")
    shutil.rmtree(output, ignore_errors=True)
    begun = time.monotonic()
    search = restore(
        tuned, aligned, found, output=output, method=name.split(",", maxsplit=1)[0], base=ChatModel.load("tiny-base"),
        **given,
    )  # fmt: skip
    seconds = time.monotonic() - begun
    models = {"aligned": aligned, "tuned": tuned, "restored": ChatModel.load(output)}
    cases = {which: study.measure(model, attack, which, seed, "test") for which, model in models.items()}
    Restored(search=search, seconds=seconds, **cases).write(case_path(folder, attack, name, seed))
    shutil.rmtree(output)


def case_path(folder: Path, attack: str, name: str, seed: int) -> Path:
    """Return where a case is kept."""
    return folder / "cases" / f"{attack}_{name.replace(' ', '-').replace(',', '')}_{seed}.json"


def show(folder: Path, attack: str, seeds: list[int]) -> None:
    """Print the table of the cases that are there."""
    header = ("method", "harmful rate", "task's gain kept, a seed", "over-refusal", "questions right", "chosen")
    print(f"\n## {attack}\n\n| {' | '.join(header)} |\n{'| --- ' * len(header)}|")
    shown: set[str] = set()
    for name in METHODS:
        paths = [case_path(folder, attack, name, seed) for seed in seeds]
        found = [Restored.read(path) for path in paths if path.exists()]
        for which in ("aligned", "tuned", "restored"):
            if found and which not in shown:
                print(line(name, which, found))
                shown |= {which} - {"restored"}


def line(name: str, which: str, found: list[Restored]) -> str:
    """Return one line."""
    cases = [getattr(one, which) for one in found]
    harmful, refused, right = (
        study.percent(Estimate.of(study.means(hits)))
        for hits in ([c.harmful[study.JUDGE] for c in cases], [c.over_refused for c in cases], [c.right for c in cases])
    )
    kept = ", ".join(f"{100 * one.gain_kept:.0f} %" for one in found) if which == "restored" else ""
    chosen = "; ".join(described(one.search) for one in found) if which == "restored" else ""
    return f"| {name if which == 'restored' else which} | {harmful} | {kept} | {refused} | {right} | {chosen} |"


def described(search: RestoreResult) -> str:
    """Return what was chosen."""
    chosen = search.chosen
    reached = "" if search.reached else ", not reached"
    return f"{chosen.strength:g}, elsewhere {chosen.elsewhere:g}{reached}"


def main() -> None:
    """Run what was asked for and is not there, then show all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("map", type=Path)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--attacks", nargs="+", default=["implicit"], choices=study.ATTACKS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--for-seconds", type=float, default=float("inf"), help="Begin no case after so long.")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        run_case(given.output, given.map, given.attacks[0], given.methods[0], given.seeds[0])
        return
    begun = time.monotonic()
    for attack, seed, name in [(a, s, m) for a in given.attacks for s in given.seeds for m in given.methods]:
        if not case_path(given.output, attack, name, seed).exists() and time.monotonic() - begun < given.for_seconds:
            command = [sys.executable, __file__, str(given.output), str(given.map), "--one", "--attacks", attack]
            subprocess.run([*command, "--methods", name, "--seeds", str(seed)], check=True)
    for attack in given.attacks:
        show(given.output, attack, given.seeds)


if __name__ == "__main__":
    main()
