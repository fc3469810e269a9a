"""What a model seems to optimise beside its base: the weights of named values, and how sure they are.

Where a model M was made of a base B by raising a reward r and staying near B, log M(y|x) - log B(y|x) =
r(x, y) / beta - log Z(x) (maximum entropy: Ziebart et al. 2008; in this form arXiv 2305.18290, eq. 5). Here r / beta is
a weighted sum of the reply's scores in named values. Three ways from the same replies to the weights:

    preference   which of two replies is M's and not B's is a choice by r / beta (Bradley and Terry), by Bayes
    log-ratio    both models are open, so the left side is known: a Bayesian linear regression on the scores
    max-margin   a support vector machine tells M's scores from B's (after Abbeel and Ng 2004)

None of them tells a shift a prompt, which Z takes up, so only replies to one prompt are compared; nor beta, so weights
have their method's own scale. Prompts are the unit: where replies to one prompt have more in common than the model
knows, intervals are as wide as that asks.
"""

from safetylayers.align.audit.held_out import clustered_wilson
from safetylayers.align.audit.methods import METHODS, Pairs
from safetylayers.align.audit.record import AuditedPrompt, Method, TellingPair, ValueAudit, Weight
from safetylayers.align.audit.run import audit, infer
from safetylayers.align.audit.samples import Said, Samples, draw_samples
from safetylayers.align.audit.scores import RewardScorer, Scored, Scorer

__all__ = [
    "METHODS",
    "AuditedPrompt",
    "Method",
    "Pairs",
    "RewardScorer",
    "Said",
    "Samples",
    "Scored",
    "Scorer",
    "TellingPair",
    "ValueAudit",
    "Weight",
    "audit",
    "clustered_wilson",
    "draw_samples",
    "infer",
]
