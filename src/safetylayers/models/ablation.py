"""Removing directions from the residual stream: at run time by hooks, or for good in the weights.

arXiv 2406.11717, sections 2.4 and 4.1. Whatever writes to the residual stream (embeddings, attention, MLP) writes
nothing along the directions any more. In layers that add what was written as it is, both ways are the same; where a
norm comes between (Gemma, OLMo 2), the norm brings some of a direction back, and only the hooks remove that as well.

Shapes: B rows, T tokens, H hidden size, K directions.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from safetylayers.errors import UsageError
from safetylayers.models.interventions import captured, changed_output
from safetylayers.models.structure import expert_modules, linear_modules, projections

if TYPE_CHECKING:
    from safetylayers.models.chat_model import ChatModel
    from safetylayers.models.tokens import Batch

LEFT = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 3e-2}
"""How much of what is written may still lie along the directions, by what rounding leaves."""


def orthonormal(directions_KH: Tensor) -> Tensor:
    """Return an orthonormal basis of what the directions span: float32 [K, H].

    Raises:
        UsageError: a direction is zero, no number, or depends on the others.
    """
    basis_HK, triangle_KK = torch.linalg.qr(directions_KH.double().T)
    sizes = triangle_KK.diagonal().abs() / directions_KH.double().norm(dim=1)
    if not bool((sizes > 1e-6).all()):
        raise UsageError("A direction is zero or depends on the others.", mend="Give directions that differ.")
    basis_KH: Tensor = basis_HK.T.float().contiguous()
    return basis_KH


@contextmanager
def ablated(model: ChatModel, basis_KH: Tensor) -> Iterator[None]:
    """Within the block, nothing along an orthonormal basis is in the residual stream."""
    remove = _without(basis_KH)
    embeddings: nn.Module = model.model.get_input_embeddings()
    with ExitStack() as stack:
        for module in (embeddings, *(part for layer in model.layers for part in (*_writers(layer), layer))):
            stack.enter_context(changed_output(module, remove))
        yield


def with_ablated_weights(model: ChatModel, basis_KH: Tensor) -> ChatModel:
    """Return a copy whose weights write nothing along an orthonormal basis.

    Raises:
        UsageError: the matrices that write to the residual stream cannot be told apart by their shapes.
    """
    from safetylayers.models.chat_model import ChatModel

    edited = ChatModel(copy.deepcopy(model.model), model.tokenizer, name=f"{model.name}, ablated")
    if edited.model.config.get_text_config(decoder=True).tie_word_embeddings:
        _untie(edited.model)
    with torch.no_grad():
        _project(edited.model.get_input_embeddings().get_parameter("weight"), basis_KH, axis=-1)
        for module in _writing_modules(edited):
            _edit(module, basis_KH, edited.hidden_size)
    _check(edited, basis_KH)
    return edited


def _without(basis_KH: Tensor) -> Callable[[Tensor], Tensor]:
    def remove(hidden_BTH: Tensor) -> Tensor:
        return _less(hidden_BTH, basis_KH)

    return remove


def _less(values: Tensor, basis_KH: Tensor) -> Tensor:
    """Return values [..., H] without what lies along the basis."""
    basis, plain = basis_KH.to(values.device), values.float()
    return (plain - (plain @ basis.T) @ basis).to(values.dtype)


def _writers(layer: nn.Module) -> list[nn.Module]:
    """Return the parts of a layer that hold its projections: attention and MLP."""
    return [part for part in layer.children() if projections(part)]


def _writing_modules(model: ChatModel) -> list[nn.Module]:
    """Return the modules through which parts write: experts, and of each part the linear one that it calls last."""
    parts = [part for layer in model.layers for part in _writers(layer)]
    called: dict[int, nn.Module] = {}
    with ExitStack() as stack:
        for number, part in enumerate(parts):
            for _, linear in linear_modules(part):
                if linear.out_features == model.hidden_size:
                    stack.callback(linear.register_forward_hook(_noted(called, number)).remove)
        model.next_token_logits(_sample(model))
    return [*called.values(), *(module for part in parts for _, module in expert_modules(part))]


def _sample(model: ChatModel) -> Batch:
    return model.batch_of([list(range(min(64, len(model.tokenizer))))])


def _noted(called: dict[int, nn.Module], number: int) -> Callable[..., None]:
    def hook(module: nn.Module, _inputs: Any, _output: Any) -> None:
        called[number] = module

    return hook


def _check(model: ChatModel, basis_KH: Tensor) -> None:
    """Raise UsageError where a part still writes along the basis: it has matrices that were not found."""
    parts = [part for layer in model.layers for part in _writers(layer)]
    with captured(parts, range(len(parts)), lambda hidden: hidden.float()) as written:
        model.next_token_logits(_sample(model))
    for hidden_BTH in written.values():
        along = float((hidden_BTH @ basis_KH.to(hidden_BTH.device).T).norm() / hidden_BTH.norm())
        if along > LEFT[model.dtype]:
            raise UsageError(
                f"{model.architecture}: not all matrices that write to the residual stream were found.",
                mend="Ablate at run time.",
            )


def _edit(module: nn.Module, basis_KH: Tensor, size: int) -> None:
    """Project everything by which a module writes."""
    if isinstance(module, nn.Linear):
        _project(module.weight, basis_KH, axis=0)
        if module.bias is not None:
            _project(module.bias, basis_KH, axis=0)
        return
    matrices = {name: p for name, p in module.named_parameters(recurse=False) if p.dim() == 3}
    if not matrices:
        raise UsageError(f"{type(module).__name__}: how it writes is not known.", mend="Ablate at run time.")
    name, down = min(matrices.items(), key=lambda pair: pair[1].numel())
    axes = [axis for axis in (1, 2) if down.shape[axis] == size]
    if len(axes) != 1:
        raise UsageError(f"{name}: which of its axes is the hidden size is not known.", mend="Ablate at run time.")
    _project(down, basis_KH, axis=axes[0])
    for other, parameter in module.named_parameters(recurse=False):
        if other.startswith(name) and other != name:  # its biases
            _project(parameter, basis_KH, axis=-1)


def _project(parameter: Tensor, basis_KH: Tensor, *, axis: int) -> None:
    """Remove the basis from a parameter along one axis of hidden size."""
    parameter.copy_(_less(parameter.movedim(axis, -1), basis_KH).movedim(-1, axis))


def _untie(model: Any) -> None:
    """Give the output its own matrix: it reads the residual stream and writes nothing to it."""
    head = model.get_output_embeddings()
    head.weight = nn.Parameter(head.weight.detach().clone())
    model.config.get_text_config(decoder=True).tie_word_embeddings = False
    model.config.tie_word_embeddings = False
