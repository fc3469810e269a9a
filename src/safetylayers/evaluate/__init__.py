"""What a model does: who refuses what, how often, at what cost, and how sure that is."""

from safetylayers.evaluate.agreement import Agreement, Disagreement
from safetylayers.evaluate.classifier import ClassifierJudge
from safetylayers.evaluate.coherence import incoherence, is_coherent
from safetylayers.evaluate.detectors import DetectorAccuracy, LabelledReply, load_labelled, measure_detectors
from safetylayers.evaluate.evaluation import evaluate
from safetylayers.evaluate.judges import Judge, Judgement, PatternJudge, PhraseJudge, ScoringJudge, Verdict
from safetylayers.evaluate.log_odds import DEFAULT_OPENINGS, discriminating_openings, refusal_log_odds
from safetylayers.evaluate.mmlu import choice_accuracy, load_choice_questions
from safetylayers.evaluate.rubric import RubricJudge
from safetylayers.evaluate.scores import Evaluation, JudgeScores, ModelScores, Reply
from safetylayers.evaluate.utility import is_exact_match, perplexity, rouge_l

__all__ = [
    "DEFAULT_OPENINGS",
    "Agreement",
    "ClassifierJudge",
    "DetectorAccuracy",
    "Disagreement",
    "Evaluation",
    "Judge",
    "JudgeScores",
    "Judgement",
    "LabelledReply",
    "ModelScores",
    "PatternJudge",
    "PhraseJudge",
    "Reply",
    "RubricJudge",
    "ScoringJudge",
    "Verdict",
    "choice_accuracy",
    "discriminating_openings",
    "evaluate",
    "incoherence",
    "is_coherent",
    "is_exact_match",
    "load_choice_questions",
    "load_labelled",
    "measure_detectors",
    "perplexity",
    "refusal_log_odds",
    "rouge_l",
]
