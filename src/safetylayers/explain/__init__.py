"""Why did the model refuse, and where inside: saliency, attention, lens and patching (docs/concepts/explaining.md)."""

from __future__ import annotations

from safetylayers.explain.comparison import Comparison, compare
from safetylayers.explain.explainer import Explainer
from safetylayers.explain.explanation import Explanation

__all__ = ["Comparison", "Explainer", "Explanation", "compare"]
