"""Runs an attack on a set of prompts, keeps each case as soon as it is done, and goes on where it was interrupted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from safetylayers.attack.base import Attack, Ground
from safetylayers.attack.record import AttackCase, AttackResult, Setting, default_judges
from safetylayers.errors import OutputError, UsageError
from safetylayers.prompts import PromptSet
from safetylayers.records import ProgressCallback, Provenance

if TYPE_CHECKING:
    from safetylayers.evaluate import Judge
    from safetylayers.targets import Target


def run_attack(
    attack: Attack,
    target: Target,
    prompts: PromptSet,
    *,
    judges: Sequence[Judge] | None = None,
    seed: int = 0,
    title: str = "",
    keep: Path | None = None,
    progress: ProgressCallback | None = None,
) -> AttackResult:
    """Attack every prompt. For testing one's own model.

    Args:
        attack: with its settings.
        target: what is attacked.
        prompts: malicious ones.
        judges: by themselves phrases and patterns.
        seed: of all that is drawn.
        title: how tables call this run; by itself the attack's name.
        keep: folder for cases that are done; an interrupted attack goes on from them.
        progress: told of what is under way.

    Raises:
        UsageError: there are no prompts, or the attack cannot be run on this target.
        OutputError: a case cannot be kept.
    """
    if not len(prompts):
        raise UsageError("There is nothing to attack: no prompts were given.", mend="Give at least one prompt.")
    panel = judges or default_judges()
    ground = Ground(target, panel, seed, progress)
    kept = _Kept(keep, attack, ground, prompts) if keep else None
    cases = kept.read() if kept else {}
    for index, case in attack.cases(ground, {i: t for i, t in enumerate(prompts.texts) if i not in cases}):
        cases[index] = case
        if kept:
            kept.add(index, case)
    return AttackResult(
        attack=attack.name,
        title=title or attack.name,
        settings=attack.settings(),
        cases=tuple(cases[index] for index in range(len(prompts))),
        provenance=Provenance(
            model=target.name, model_hash=target.weights_hash, data={prompts.name: prompts.content_hash}, seed=seed
        ),
    )


class _Kept:
    """Cases that are done, a line each, in a file of this very attack on this very target."""

    def __init__(self, folder: Path, attack: Attack, ground: Ground, prompts: PromptSet) -> None:
        identity: dict[str, Setting | list[str] | dict[str, Setting]] = {
            "attack": attack.name, "settings": attack.settings(), "seed": ground.seed, "target": ground.target.name,
            "weights": ground.target.weights_hash, "prompts": prompts.content_hash,
            "judges": [judge.name for judge in ground.judges],
        }  # fmt: skip
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        self._path = folder / f"{attack.name}-{digest[:16]}.jsonl"

    def read(self) -> dict[int, AttackCase]:
        """Return the cases that are kept; a line that was broken off is none."""
        try:
            lines = self._path.read_text("utf-8").splitlines(keepends=True)
        except FileNotFoundError:
            return {}
        whole = [json.loads(line) for line in lines if line.endswith("\n")]
        if len(whole) < len(lines):  # so that the next line does not go on from the broken one
            self._path.write_text("".join(lines[: len(whole)]), "utf-8")
        return {row["index"]: AttackCase.model_validate(row["case"]) for row in whole}

    def add(self, index: int, case: AttackCase) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"index": index, "case": case.model_dump(mode="json")}) + "\n")
        except OSError as error:
            raise OutputError(
                f"{self._path}: cannot be written ({error.strerror}).",
                mend="Free some room and run the same command again: it goes on from what is kept.",
            ) from error
