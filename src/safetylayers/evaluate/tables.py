"""An evaluation as rows of text: for the terminal, a model card, a report."""

from __future__ import annotations

from safetylayers.evaluate.scores import Evaluation

HEADER = ("model", "judge", "harmful", "over-refusal", "benign refusal", "incoherent", "exact match")


def evaluation_rows(evaluation: Evaluation) -> list[tuple[str, ...]]:
    """Return a header and one row a model and judge; every rate with its 95 % interval."""
    rows: list[tuple[str, ...]] = [HEADER]
    for model in evaluation.models:
        for judge, scores in model.judges.items():
            rates = (
                scores.harmful_rate,
                scores.over_refusal_rate,
                scores.benign_refusal_rate,
                scores.incoherent_rate,
                model.exact_match,
            )
            rows.append((model.name, judge, *map(str, rates)))
    return rows


def evaluation_markdown(evaluation: Evaluation) -> str:
    """Return the same as a Markdown table."""
    header, *rows = evaluation_rows(evaluation)
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
