"""A model that has its safety layers on whenever it is run through one object.

The weights are shared with the bare model, and the layers are put on for each call: calls through such objects wait
for each other, and whoever runs the bare model from another thread meanwhile runs it with its layers on. For serving,
attach once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from threading import RLock
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from torch import Tensor

from safetylayers.attach.attached import Attached
from safetylayers.attach.control import Control
from safetylayers.models import Batch, ChatModel
from safetylayers.models.generation import GumbelNoise

if TYPE_CHECKING:
    from safetylayers.attach.layers import SafetyLayers
    from safetylayers.attach.trace import TraceCallback


_LOCKS: WeakKeyDictionary[object, RLock] = WeakKeyDictionary()


def _lock(model: object) -> RLock:
    """Return the lock of a model's weights."""
    return _LOCKS.setdefault(model, RLock())


class GuardedModel(ChatModel):
    """The same weights as another `ChatModel`, with safety layers: both can be compared without a second copy."""

    def __init__(
        self,
        model: ChatModel,
        layers: SafetyLayers,
        *,
        name: str = "",
        control: Control | None = None,
        trace: TraceCallback | None = None,
    ) -> None:
        """Share a model's weights.

        Raises:
            WrongModelError: the layers are another model's.
        """
        layers.check(model)
        super().__init__(
            model.model, model.tokenizer, name=name or f"{model.name}, attached", batch_size=model.batch_size
        )
        self.__dict__["weights_hash"] = model.weights_hash  # the cached property's own place: they are the same weights
        self.safety_layers, self.control, self.trace = layers, control or Control(), trace

    def logits(self, batch: Batch, *, last: int, embedded: Tensor | None = None) -> Tensor:
        """Return the logits at the `last` positions, [B, last, V], with safety layers on."""
        with _lock(self.model), Attached(self, self.safety_layers, control=self.control, trace=self.trace):
            return super().logits(batch, last=last, embedded=embedded)

    def _generate(
        self,
        given: Mapping[str, Tensor],
        max_new_tokens: int,
        ends: Sequence[int],
        noise: GumbelNoise | None = None,
    ) -> list[list[int]]:
        with _lock(self.model), Attached(self, self.safety_layers, control=self.control, trace=self.trace):
            return super()._generate(given, max_new_tokens, ends, noise)
