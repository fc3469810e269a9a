"""What a model does: who refuses what, how often, at what cost, and how sure that is."""

from safetylayers.evaluate.coherence import is_coherent
from safetylayers.evaluate.evaluation import Evaluation, JudgeScores, ModelScores, Reply, evaluate
from safetylayers.evaluate.judges import Judge, PatternJudge, PhraseJudge, Verdict
from safetylayers.evaluate.log_odds import DEFAULT_OPENINGS, discriminating_openings, refusal_log_odds
from safetylayers.evaluate.utility import is_exact_match, perplexity, rouge_l

__all__ = [
    "DEFAULT_OPENINGS",
    "Evaluation",
    "Judge",
    "JudgeScores",
    "ModelScores",
    "PatternJudge",
    "PhraseJudge",
    "Reply",
    "Verdict",
    "discriminating_openings",
    "evaluate",
    "is_coherent",
    "is_exact_match",
    "perplexity",
    "refusal_log_odds",
    "rouge_l",
]
