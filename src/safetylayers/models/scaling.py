"""Scaling a layer's projections by alpha without touching a weight (arXiv 2408.17003, section 3.3).

A linear module computes W x + b. Scaling W by alpha and leaving b alone is the same as scaling x by alpha, so a hook
on the input does it, with an alpha of its own for every row of a batch. Fused experts compute D f(U x): their input is
scaled for U and their output for D. gpt-oss adds a bias after D; its share of the output is left out of the scaling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from safetylayers.models.structure import expert_modules, linear_modules

Alpha = float | Tensor


@contextmanager
def scaled(layer: nn.Module, alpha: Alpha) -> Iterator[None]:
    """Within the block, the layer's attention and MLP projections act as if multiplied by alpha.

    Args:
        layer: a decoder layer.
        alpha: one number, or one a row of the batch: [B].
    """
    with ExitStack() as stack:
        for _, linear in linear_modules(layer):
            stack.callback(linear.register_forward_pre_hook(_scale_input(alpha)).remove)
        for _, experts in expert_modules(layer):
            stack.callback(experts.register_forward_pre_hook(_scale_experts_input(alpha), with_kwargs=True).remove)
            stack.callback(experts.register_forward_hook(_scale_output(alpha), with_kwargs=True).remove)
        yield


def _scale_input(alpha: Alpha) -> Callable[..., Any]:
    def hook(_module: nn.Module, inputs: tuple[Any, ...]) -> Any:
        return inputs[0] * _spread(alpha, inputs[0])

    return hook


def _scale_experts_input(alpha: Alpha) -> Callable[..., Any]:
    def hook(module: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
        first, *others = inputs
        return (first * _spread(alpha, first, _copies(module, inputs, options)), *others), options

    return hook


def _scale_output(alpha: Alpha) -> Callable[..., Any]:
    def hook(module: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any], output: Tensor) -> Tensor:
        factor = _spread(alpha, output, _copies(module, inputs, options))
        result = output * factor
        bias_EH = getattr(module, "down_proj_bias", None)
        if bias_EH is not None:
            result = result - (factor - 1) * _routed_bias(bias_EH, inputs, options)
        return result

    return hook


def _routed_bias(bias_EH: Tensor, inputs: tuple[Any, ...], options: dict[str, Any]) -> Tensor:
    """Return what the experts' output biases add to each token: [tokens, H]."""
    indices_NK = options["router_indices"] if "router_indices" in options else inputs[1]
    weights_NK = options["routing_weights"] if "routing_weights" in options else inputs[2]
    bias_NH: Tensor = (bias_EH[indices_NK] * weights_NK[..., None]).sum(dim=1)
    return bias_NH


def _spread(alpha: Alpha, values: Tensor, copies: int = 1) -> Alpha:
    """Shape alpha so that it multiplies `values`.

    Args:
        alpha: one number, or one a row: [B].
        values: [B, T, ...], or tokens flattened in row-major order: [copies * B * T, H].
        copies: how often all tokens follow one another; Llama 4 repeats them once an expert.
    """
    if not isinstance(alpha, Tensor):
        return alpha
    alpha_B = alpha.to(values)
    if values.dim() > 2:
        return alpha_B.view(-1, *[1] * (values.dim() - 1))
    tokens_a_row = values.shape[0] // (copies * len(alpha_B))
    return alpha_B.repeat_interleave(tokens_a_row).repeat(copies)[:, None]


def _copies(experts: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]) -> int:
    """Return how often an experts module is given each token: without a routing among its inputs, once an expert."""
    routed = len(inputs) + len(options) > 1
    return 1 if routed else next(p.shape[0] for p in experts.parameters(recurse=False) if p.dim() == 3)
