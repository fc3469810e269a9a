"""Attacks on one's own model: what every defence is tested by."""

from safetylayers.attack.ablate import Ablate
from safetylayers.attack.base import Attack, Ground
from safetylayers.attack.embedding import Embedding
from safetylayers.attack.encodings import Encodings
from safetylayers.attack.finetuning import FinetuneAttack
from safetylayers.attack.gcg import Gcg
from safetylayers.attack.many_shot import ManyShot
from safetylayers.attack.pair import Pair, Tap
from safetylayers.attack.prefill import COMPLIANCE, Prefill
from safetylayers.attack.record import AttackCase, AttackResult, Cost
from safetylayers.attack.residual import Residual
from safetylayers.attack.running import run_attack
from safetylayers.attack.search import RandomSearch
from safetylayers.attack.templates import Templates

__all__ = [
    "COMPLIANCE",
    "Ablate",
    "Attack",
    "AttackCase",
    "AttackResult",
    "Cost",
    "Embedding",
    "Encodings",
    "FinetuneAttack",
    "Gcg",
    "Ground",
    "ManyShot",
    "Pair",
    "Prefill",
    "RandomSearch",
    "Residual",
    "Tap",
    "Templates",
    "run_attack",
]
