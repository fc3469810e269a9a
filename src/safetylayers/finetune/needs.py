"""What a method needs besides the model and the user's rows, made or checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetylayers.errors import UsageError
from safetylayers.finetune.adapters import check_shape
from safetylayers.finetune.methods import Method
from safetylayers.finetune.options import Number
from safetylayers.finetune.safety_rows import own_refusals
from safetylayers.models import ChatModel
from safetylayers.prompts import ExampleSet
from safetylayers.records import ProgressCallback

if TYPE_CHECKING:
    from safetylayers.locate import SafetyMap


@dataclass(frozen=True)
class Needs:
    """What a method needs besides the model and the user's rows."""

    block: tuple[int, int] | None
    """Layers that are held still."""
    compared: tuple[int, ...]
    """Layers whose hidden states are compared."""
    base: ChatModel | None
    safety: ExampleSet | None

    @property
    def held(self) -> range:
        """Every layer of the block; none where nothing is protected."""
        return range(self.block[0], self.block[1] + 1) if self.block else range(0)

    @classmethod
    def of(
        cls,
        method: Method,
        options: dict[str, Number],
        model: ChatModel,
        found: SafetyMap | None,
        base: ChatModel | str | Path | None,
        safety: ExampleSet | None,
        progress: ProgressCallback | None,
    ) -> Needs:
        """Make or check it. Raises UsageError."""
        _refuse_unused(method, base=base, safety=safety)
        block, compared = method.block, tuple[int, ...]()
        if method.protects_map or options.get("kl_at", "outputs") != "outputs":
            first, last = _range(method, found, model)
            block = (first, last) if method.protects_map else block
            compared = tuple(range(first, last + 1))
        before = _base(method, base, model) if method.adapter == "safelora" else None
        if method.learns_safety and safety is None:
            safety = own_refusals(model, progress=progress)
        return cls(block, compared, before, safety)


def _refuse_unused(method: Method, *, base: object, safety: object) -> None:
    if base is not None and method.adapter != "safelora":
        raise UsageError(f"The method {method.name!r} takes no base model.", mend="Leave --base out, or use safelora.")
    if safety is not None and not method.learns_safety:
        raise UsageError(
            f"The method {method.name!r} takes no safety rows.", mend="Leave --safety out, or use lisa, mix or kl."
        )


def _range(method: Method, found: SafetyMap | None, model: ChatModel) -> tuple[int, int]:
    if found is None:
        raise UsageError(
            f"The method {method.name!r} needs the model's safety map.",
            mend=f"Make it: safetylayers locate {model.name} -o MAP, then give --map MAP.",
        )
    found.check(model)
    return found.range


def _base(method: Method, base: ChatModel | str | Path | None, model: ChatModel) -> ChatModel:
    if base is None:
        raise UsageError(
            f"The method {method.name!r} needs the model before alignment.",
            mend="Give it with --base: the pre-trained model that this one was aligned from.",
        )
    loaded = base if isinstance(base, ChatModel) else ChatModel.load(base)
    check_shape(loaded, model)
    return loaded
