"""Find a language model's safety layers once, and use that map through its whole life.

`import safetylayers` is cheap: torch and transformers load with the first name that needs them. Functions that are
named like their room come from there: `from safetylayers.locate import locate`.
"""

from __future__ import annotations

import importlib
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

__version__ = _version("safetylayers")

_HOME = {
    "ChatModel": "safetylayers.models",
    "PromptSet": "safetylayers.prompts",
    "SafetyMap": "safetylayers.locate",
    "builtin": "safetylayers.prompts",
    "load_prompts": "safetylayers.prompts",
}

if TYPE_CHECKING:
    from safetylayers.locate import SafetyMap as SafetyMap
    from safetylayers.models import ChatModel as ChatModel
    from safetylayers.prompts import PromptSet as PromptSet
    from safetylayers.prompts import builtin as builtin
    from safetylayers.prompts import load_prompts as load_prompts

__all__ = ["ChatModel", "PromptSet", "SafetyMap", "builtin", "load_prompts"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'safetylayers' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
