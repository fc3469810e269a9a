"""Holding tensors still, and the proof that they stayed: not that gradients were zero, but that no bit has changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback

from safetylayers.errors import FrozenTensorError


def fingerprint(model: nn.Module, names: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of each named parameter's bytes."""
    return {name: _digest(model.get_parameter(name)) for name in names}


def _digest(tensor: torch.Tensor) -> str:
    raw = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    return hashlib.sha256(raw).hexdigest()


def check_unmoved(model: nn.Module, before: Mapping[str, str]) -> None:
    """Compare with an earlier fingerprint.

    Raises:
        FrozenTensorError: a tensor has moved.
    """
    after = fingerprint(model, before)
    if moved := [name for name, digest in before.items() if after[name] != digest]:
        raise FrozenTensorError(
            f"{len(moved)} of {len(before)} frozen tensors have moved: {', '.join(moved[:3])}.",
            mend="Something else writes to them: check optimizers, weight averaging and other callbacks.",
        )


class ProveFrozen(TrainerCallback):
    """Proves at the end of training that the frozen tensors are bitwise what they were at its beginning.

    For a Trainer of one's own: `Trainer(..., callbacks=[ProveFrozen(map.freeze(model))])`.
    """

    def __init__(self, names: Iterable[str]) -> None:
        """Take the names that `SafetyMap.freeze` returned."""
        self.names = list(names)
        self.before: dict[str, str] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Remember the tensors; a resumed run has loaded its checkpoint only after this, which must not matter."""
        self.before = self.before or fingerprint(kwargs["model"], self.names)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Compare. Raises FrozenTensorError."""
        check_unmoved(kwargs["model"], self.before)
