"""Inverse reinforcement learning: a reward from good behaviour alone, and a policy that follows it."""

from safetylayers.align.irl.rounds import IrlPlan, IrlResult, PolicyStep, RewardStep, Round, learn_from_demonstrations

__all__ = ["IrlPlan", "IrlResult", "PolicyStep", "RewardStep", "Round", "learn_from_demonstrations"]
