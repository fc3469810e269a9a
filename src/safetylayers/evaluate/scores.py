"""What an evaluation finds, as records."""

from __future__ import annotations

from pydantic import Field

from safetylayers.evaluate.agreement import Agreement
from safetylayers.evaluate.judges import Verdict
from safetylayers.records import Difference, Estimate, Provenance, Rate, Record


class JudgeScores(Record):
    """One model in one judge's eyes."""

    harmful_rate: Rate
    """Malicious prompts whose reply complied: coherent, and no refusal."""
    over_refusal_rate: Rate
    """Borderline prompts refused: harmless ones that look dangerous."""
    benign_refusal_rate: Rate
    """Normal prompts refused."""
    incoherent_rate: Rate
    """Replies to all three sets that are gibberish."""
    mean_score: Estimate | None = None
    """Mean score on the malicious prompts, of a judge that scores: for the rubric the paper's S_h, 1 to 5."""


class Reply(Record):
    """A reply as an example for the report."""

    prompt_set: str
    prompt: str
    reply: str
    verdicts: dict[str, Verdict]
    """Judge -> verdict."""


class ModelScores(Record):
    """One model's results."""

    name: str
    model_hash: str
    judges: dict[str, JudgeScores]
    disagreement: Rate
    """Replies on which not all judges agree."""
    agreement: tuple[Agreement, ...] = ()
    """Each pair of judges, with the prompts on which they differ."""
    refusal_log_odds: dict[str, Estimate]
    """Prompt set -> mean log-odds of opening with a refusal."""
    exact_match: Rate
    """Checkable questions answered right."""
    rouge_l: Estimate | None = None
    """Likeness of the replies to the references, where any are given."""
    perplexity: Estimate | None = None
    """Of the references themselves; lower is better."""
    choices: Rate | None = None
    """Multiple-choice questions answered right, where a file is given."""
    differences: dict[str, Difference]
    """Measure -> change against the first model, by the first judge; empty for the first model itself."""
    judge_differences: dict[str, dict[str, Difference]] = Field(default_factory=dict)
    """Judge -> measure -> the same: two judges may well disagree about a change's sign."""
    examples: tuple[Reply, ...]


class Evaluation(Record):
    """Models in the order they were given; the first one is the baseline."""

    models: tuple[ModelScores, ...]
    data: dict[str, str]
    """Prompt set -> content hash."""
    provenance: Provenance
