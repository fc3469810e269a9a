"""What reads requests and replies: patterns, personal data, limits, moderation models, classifiers, guard models."""

from safetylayers.oversee.guards.base import Finding, Guard, Passage, Stage, Verdict, held_back
from safetylayers.oversee.guards.ledger import Ledger
from safetylayers.oversee.guards.registry import close_guard, known_kinds, make_guard, open_guard
from safetylayers.oversee.guards.runner import Failure, run_guard

__all__ = [
    "Failure",
    "Finding",
    "Guard",
    "Ledger",
    "Passage",
    "Stage",
    "Verdict",
    "close_guard",
    "held_back",
    "known_kinds",
    "make_guard",
    "open_guard",
    "run_guard",
]
