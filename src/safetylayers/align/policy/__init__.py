"""Policies: from a reward to a model that follows it, through TRL's trainers."""

from safetylayers.align.policy.plan import METHODS, Look, Method, PolicyPlan, PolicyResult
from safetylayers.align.policy.training import align_policy

__all__ = ["METHODS", "Look", "Method", "PolicyPlan", "PolicyResult", "align_policy"]
