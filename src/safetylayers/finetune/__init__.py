"""Fine-tuning that keeps safety (SPPFT, arXiv 2408.17003, and its rivals), screening before it, restoring after it."""

from safetylayers.finetune.card import write_model_card
from safetylayers.finetune.freezing import ProveFrozen, fingerprint
from safetylayers.finetune.methods import Method, parse_method
from safetylayers.finetune.options import MethodOptions
from safetylayers.finetune.restore import RestoreResult, restore
from safetylayers.finetune.safety_rows import own_refusals
from safetylayers.finetune.screen import ScreenResult, screen
from safetylayers.finetune.training import FinetuneResult, finetune

__all__ = [
    "FinetuneResult",
    "Method",
    "MethodOptions",
    "ProveFrozen",
    "RestoreResult",
    "ScreenResult",
    "finetune",
    "fingerprint",
    "own_refusals",
    "parse_method",
    "restore",
    "screen",
    "write_model_card",
]
