"""The gate: a suite of attacks and harmless prompts with bounds, for somebody's continuous integration."""

from safetylayers.attack.gate.policy import AttackBound, GatePolicy, HarmlessBound, QuestionsBound, load_gate_policy
from safetylayers.attack.gate.record import Check, GateResult
from safetylayers.attack.gate.running import run_gate

__all__ = [
    "AttackBound",
    "Check",
    "GatePolicy",
    "GateResult",
    "HarmlessBound",
    "QuestionsBound",
    "load_gate_policy",
    "run_gate",
]
