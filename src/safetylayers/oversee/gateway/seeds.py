"""Seeds made of seeds."""

from __future__ import annotations

from hashlib import sha256

LARGEST = 2**31
"""What every server takes."""


def other_seed(seed: int, *what: int | str) -> int:
    """Return another seed, always the same one for the same seed and purpose."""
    text = " ".join(map(str, (seed, *what)))
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big") % LARGEST
