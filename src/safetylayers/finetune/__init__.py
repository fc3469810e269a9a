"""Fine-tuning that keeps safety: SPPFT (arXiv 2408.17003, section 4) and its rivals."""

from safetylayers.finetune.card import write_model_card
from safetylayers.finetune.freezing import ProveFrozen, fingerprint
from safetylayers.finetune.methods import Method, parse_method
from safetylayers.finetune.training import FinetuneResult, finetune

__all__ = ["FinetuneResult", "Method", "ProveFrozen", "finetune", "fingerprint", "parse_method", "write_model_card"]
