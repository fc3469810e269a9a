"""What a run trains against: methods, and combinations of them joined by "+"."""

from __future__ import annotations

from dataclasses import dataclass

from safetylayers.errors import UsageError

METHODS: dict[str, str] = {
    "latent": "targeted latent adversarial training (arXiv 2407.15549)",
    "embeddings": "continuous adversarial training on embeddings (arXiv 2405.15589)",
    "discrete": "suffixes that persist and are improved as training goes on (arXiv 2402.04249)",
    "circuit-breaker": "representations of harmful replies rerouted (arXiv 2406.04313)",
    "deep-alignment": "refusals after a compliant beginning (arXiv 2406.05946)",
    "refusal-feature": "refusals while the refusal direction is ablated (arXiv 2409.20089)",
}
"""Name -> what it is, and where from."""
LAYERED = frozenset({"latent", "circuit-breaker"})
"""Methods that act at chosen layers."""


@dataclass(frozen=True)
class Method:
    """A parsed `--method`."""

    name: str
    parts: tuple[str, ...]

    @property
    def has_layers(self) -> bool:
        """Whether some part acts at chosen layers."""
        return bool(LAYERED.intersection(self.parts))

    @property
    def prefixes(self) -> bool:
        """Whether harmful rows begin with some of a compliant reply: in a combination, all parts' rows do."""
        return "deep-alignment" in self.parts


def parse_method(name: str) -> Method:
    """Read a method's name.

    Raises:
        UsageError: there is no such method, or it is named twice.
    """
    parts = tuple(name.split("+"))
    known = f"Use one of {', '.join(METHODS)}, or several joined by '+'."
    for part in parts:
        if part not in METHODS:
            raise UsageError(f"There is no method {part!r}.", mend=known)
    if len(set(parts)) < len(parts):
        raise UsageError(f"The method {name!r} names a part twice.", mend=known)
    return Method(name, parts)
