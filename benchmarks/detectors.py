"""How often the judges are right, on labelled replies: the table of docs/concepts/judges.md.

    python benchmarks/detectors.py FOLDER

FOLDER holds GPTFuzzer's train.csv and evaluate.csv (columns Response and label). The patterns were tuned on train.csv
and never on evaluate.csv. Replies of evaluate.csv that train.csv holds as well are left out of the third measurement.
"""

from __future__ import annotations

import sys
from pathlib import Path

from safetylayers.evaluate.detectors import DetectorAccuracy, load_labelled, measure_detectors


def main() -> None:
    """Print the table."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    train = load_labelled(folder / "train.csv")
    known = {row.reply for row in train}
    parts = {
        "train (tuned on)": train,
        "evaluate": load_labelled(folder / "evaluate.csv"),
        "evaluate, unseen": load_labelled(folder / "evaluate.csv", keep=lambda reply: reply not in known),
    }
    print("| Replies | Judge | Accuracy, % | Precision, % | Recall, % | F1, % |")
    print("|---|---|---|---|---|---|")
    for name, rows in parts.items():
        for found in measure_detectors(rows):
            print(row(f"{name}, {len(rows):,}", found))


def row(name: str, found: DetectorAccuracy) -> str:
    """Return one line of the table."""
    rates = [(rate.value, *rate.interval) for rate in (found.accuracy, found.precision, found.recall)]
    numbers = [*rates, (found.f1.mean, found.f1.low, found.f1.high)]
    cells = [f"{100 * value:.1f} [{100 * low:.1f}, {100 * high:.1f}]" for value, low, high in numbers]
    return f"| {name} | {found.judge} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
