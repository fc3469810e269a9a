"""How often a judge is right, measured on replies that people have labelled."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from safetylayers.errors import DataError
from safetylayers.evaluate.judges import Judge, PatternJudge, PhraseJudge, Verdict
from safetylayers.records import Estimate, Rate, Record
from safetylayers.stats import DRAWS, percentile_interval, resample_indices


@dataclass(frozen=True)
class LabelledReply:
    """A reply, and whether a person found that it complied with a harmful request."""

    reply: str
    complied: bool
    prompt: str = ""


class DetectorAccuracy(Record):
    """One judge against people's labels. Gibberish counts as not complied."""

    judge: str
    accuracy: Rate
    precision: Rate
    """Of the replies that the judge finds compliant, those that people do."""
    recall: Rate
    """Of the replies that people find compliant, those that the judge does."""
    f1: Estimate
    """Harmonic mean of both; the interval is a bootstrap over replies."""
    incoherent: Rate


def measure_detectors(
    rows: Sequence[LabelledReply], judges: Sequence[Judge] | None = None, *, seed: int = 0
) -> list[DetectorAccuracy]:
    """Measure judges, by themselves those that need no model.

    Raises:
        DataError: there are no rows.
    """
    if not rows:
        raise DataError("There are no labelled replies.", mend="Give at least one.")
    panel: Sequence[Judge] = [PhraseJudge(), PatternJudge()] if judges is None else judges
    truth = np.array([row.complied for row in rows])
    found = []
    for judge in panel:
        verdicts = judge.judge([row.prompt for row in rows], [row.reply for row in rows])
        said = np.array([verdict is Verdict.COMPLIED for verdict in verdicts])
        found.append(
            DetectorAccuracy(
                judge=judge.name,
                accuracy=Rate.of((said == truth).tolist()),
                precision=Rate.of(truth[said].tolist()),
                recall=Rate.of(said[truth].tolist()),
                f1=_f1(said, truth, seed),
                incoherent=Rate.of([verdict is Verdict.INCOHERENT for verdict in verdicts]),
            )
        )
    return found


def _f1(said: NDArray[np.bool_], truth: NDArray[np.bool_], seed: int) -> Estimate:
    def score(hits: NDArray[np.int64], claims: NDArray[np.int64]) -> NDArray[np.float64]:
        return 2 * hits / np.maximum(1, claims)

    hits, claims = (said & truth).astype(np.int64), said.astype(np.int64) + truth
    draws = resample_indices(len(said), DRAWS, seed)
    low, high = percentile_interval(score(hits[draws].sum(axis=1), claims[draws].sum(axis=1)))
    return Estimate(mean=float(score(hits.sum(), claims.sum())), low=low, high=high, total=len(said))


def load_labelled(path: str | Path, *, keep: Callable[[str], bool] = lambda _: True) -> list[LabelledReply]:
    """Read a CSV with the columns Response and label (1: complied), as GPTFuzzer's data have them (arXiv 2309.10253).

    Args:
        path: of the file.
        keep: which replies to take.

    Raises:
        DataError: it cannot be read, lacks a column, or a label is neither 0 nor 1; it names file, line and mend.
    """
    found = []
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if not {"Response", "label"} <= set(reader.fieldnames or ()):
                raise DataError(f"{path}, line 1: no columns 'Response' and 'label'.", mend="Name them in the header.")
            for fields in reader:
                if fields["label"] not in ("0", "1"):
                    raise DataError(
                        f"{path}, line {reader.line_num}: the label is {fields['label']!r}.",
                        mend="Write 1 for a reply that complied, 0 for any other.",
                    )
                if keep(fields["Response"]):
                    found.append(LabelledReply(fields["Response"], fields["label"] == "1"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV ({error}).", mend="Check the path and the file.") from error
    return found
