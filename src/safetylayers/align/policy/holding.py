"""Which layers a policy may change: all, all but the safety layers, or these alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

from safetylayers.errors import UsageError
from safetylayers.finetune.adapters import with_adapters
from safetylayers.models import freeze_layers

if TYPE_CHECKING:
    from safetylayers.locate import SafetyMap
    from safetylayers.models import ChatModel

Hold = Literal["nothing", "map", "others"]
HOLDS: tuple[str, ...] = get_args(Hold)


def block_of(hold: Hold, safety_map: SafetyMap | None, model: ChatModel) -> tuple[int, int] | None:
    """Return the first and last safety layer, where they matter.

    Raises:
        UsageError: they matter, and there is no map; or there is no such choice.
        WrongModelError: the map is another model's.
        NoSafetyLayersError: it has found none.
    """
    if hold not in HOLDS:
        raise UsageError(f"There is no such choice: hold {hold!r}.", mend=f"Use one of: {', '.join(HOLDS)}.")
    if safety_map is not None:
        safety_map.check(model)
    if hold == "nothing":
        return None
    if safety_map is None:
        raise UsageError(f"To hold {hold} still takes a safety map.", mend="Give one with --map.")
    return safety_map.range


def hold_still(model: ChatModel, hold: Hold, block: tuple[int, int] | None) -> list[str]:
    """Take gradients from what is to stay; return its parameters' names."""
    if block is None:
        return []
    if hold == "map":
        return freeze_layers(model.model, *block, "layers")
    free = {id(p) for layer in model.layers[block[0] : block[1] + 1] for p in layer.parameters()}
    still = [(name, p) for name, p in model.model.named_parameters() if id(p) not in free]
    for _, parameter in still:
        parameter.requires_grad_(False)
    return [name for name, _ in still]


def adapted(model: ChatModel, hold: Hold, block: tuple[int, int] | None, rank: int, seed: int) -> Any:
    """Put adapters beside the projections of every layer that may change."""
    inside = set(range(block[0], block[1] + 1)) if block else set()
    held = set(range(model.n_layers)) - inside if hold == "others" else inside
    return with_adapters(model, held, rank, seed)
