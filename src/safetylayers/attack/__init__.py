"""Attacks on one's own model: what every defence is tested by."""

from safetylayers.attack.embedding import embedding
from safetylayers.attack.prompt_attacks import COMPLIANCE, prefill, templates
from safetylayers.attack.record import AttackCase, AttackResult, Cost

__all__ = ["COMPLIANCE", "AttackCase", "AttackResult", "Cost", "embedding", "prefill", "templates"]
