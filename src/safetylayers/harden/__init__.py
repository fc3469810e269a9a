"""Robust models: adversarial training at the safety map's layers and elsewhere, and what it costs."""

from safetylayers.harden.collapse import CollapseCheck, check_collapse
from safetylayers.harden.methods import METHODS, Method, parse_method
from safetylayers.harden.record import HardenResult, write_harden_card
from safetylayers.harden.settings import HardenSettings
from safetylayers.harden.strength import with_strength
from safetylayers.harden.suffixes import CoordinateGradient, SuffixCase, SuffixOptimiser
from safetylayers.harden.training import harden

__all__ = [
    "METHODS",
    "CollapseCheck",
    "CoordinateGradient",
    "HardenResult",
    "HardenSettings",
    "Method",
    "SuffixCase",
    "SuffixOptimiser",
    "check_collapse",
    "harden",
    "parse_method",
    "with_strength",
    "write_harden_card",
]
