"""Input perturbation: any target behind a defence that changes or checks what it is asked.

Each is itself a `Target`, so that attacks run through it and measurements are taken of it. All of them act on the
request alone: a reply that an attacker begins for the model passes through as it is.
"""

from safetylayers.harden.perturb.checks import Check, Checked, FunctionCheck, ProbeCheck, refusal_check
from safetylayers.harden.perturb.erase_and_check import Certificate, EraseAndCheck, Finding
from safetylayers.harden.perturb.erasure import Mode, token_ends, word_ends
from safetylayers.harden.perturb.naming import FORMS, through
from safetylayers.harden.perturb.paraphrase import Paraphrase
from safetylayers.harden.perturb.passing import WITHHELD, Passes
from safetylayers.harden.perturb.perplexity import PerplexityFilter, Surprise
from safetylayers.harden.perturb.retokenise import Retokenise
from safetylayers.harden.perturb.smooth import SmoothLLM

__all__ = [
    "FORMS",
    "WITHHELD",
    "Certificate",
    "Check",
    "Checked",
    "EraseAndCheck",
    "Finding",
    "FunctionCheck",
    "Mode",
    "Paraphrase",
    "Passes",
    "PerplexityFilter",
    "ProbeCheck",
    "Retokenise",
    "SmoothLLM",
    "Surprise",
    "refusal_check",
    "through",
    "token_ends",
    "word_ends",
]
