"""Directions and probes at every layer.

Harmfulness is read at the last token of the instruction and refusal at the last token of the prompt: they are separate
directions (arXiv 2507.11878). A direction is the difference of the means of malicious and normal prompts
(arXiv 2406.11717, section 2.3), of length one. A probe is a logistic regression on the last token's standardised hidden
state, trained on one half of the prompts and measured on the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from safetylayers.prompts import Template, render
from safetylayers.records import Record
from safetylayers.stats import bootstrap_auroc

if TYPE_CHECKING:
    from safetylayers.models import ChatModel

FALSE_POSITIVES = 0.01


class ProbeScore(Record):
    """How well one layer's probe tells malicious from normal prompts that it was not trained on."""

    auroc: float
    low: float
    high: float
    threshold: float
    """Score (log-odds) that 1 % of the held-out normal prompts exceed."""
    held_out: int
    """Prompts of both kinds behind these numbers. With fewer than a hundred normal ones, 1 % of them is an
    extrapolation from the most suspicious one."""


@dataclass(frozen=True)
class Probes:
    """One probe a layer: score = hidden state . weight + bias."""

    weights_LH: Tensor
    bias_L: Tensor
    scores: tuple[ProbeScore, ...]


def instruction_end(model: ChatModel, template: Template) -> int:
    """Return the position, from the prompt's end, of the instruction's last token: what follows it is the template."""
    return -1 - len(prompt_ending(model, template))


def prompt_ending(model: ChatModel, template: Template) -> tuple[int, ...]:
    """Return the tokens that the template puts after every instruction, up to where the reply begins."""
    first, second = (
        model.tokenizer(text, add_special_tokens=False).input_ids
        for text in render(["Tell me about cats", "Where is it now"], model.tokenizer, template)
    )
    same = 0
    while same < min(len(first), len(second)) and first[-1 - same] == second[-1 - same]:
        same += 1
    return tuple(first[len(first) - same :])


def difference_of_means(malicious_MLH: Tensor, normal_NLH: Tensor) -> Tensor:
    """Return unit directions from normal to malicious: [L, H]."""
    direction = malicious_MLH.mean(dim=0) - normal_NLH.mean(dim=0)
    unit: Tensor = direction / direction.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    return unit


def fit_probes(normal_NLH: Tensor, malicious_MLH: Tensor, seed: int) -> Probes:
    """Train and measure one probe a layer."""
    rng = np.random.default_rng(seed)
    n_train, n_test = _halves(len(normal_NLH), rng)
    m_train, m_test = _halves(len(malicious_MLH), rng)
    weights, bias, scores = [], [], []
    for layer in range(normal_NLH.shape[1]):
        n, m = normal_NLH[:, layer].double().numpy(), malicious_MLH[:, layer].double().numpy()
        weight, offset = _fit(n[n_train], m[m_train])
        weights.append(weight)
        bias.append(offset)
        scores.append(_measure(n[n_test] @ weight + offset, m[m_test] @ weight + offset, seed))
    stacked = torch.tensor(np.stack(weights), dtype=torch.float32)
    return Probes(stacked, torch.tensor(bias, dtype=torch.float32), tuple(scores))


def _halves(count: int, rng: np.random.Generator) -> Sequence[np.ndarray]:
    return np.array_split(rng.permutation(count), 2)


def _fit(normal: np.ndarray, malicious: np.ndarray) -> tuple[np.ndarray, float]:
    """Return weight and bias for raw hidden states; the standardisation is folded into them."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    states = np.concatenate([normal, malicious])
    labels = np.repeat([0, 1], [len(normal), len(malicious)])
    scaler = StandardScaler().fit(states)
    fitted = LogisticRegression(C=0.1, max_iter=1_000).fit(scaler.transform(states), labels)
    weight = fitted.coef_[0] / scaler.scale_
    return weight, float(fitted.intercept_[0] - weight @ scaler.mean_)


def _measure(normal: np.ndarray, malicious: np.ndarray, seed: int) -> ProbeScore:
    auroc, (low, high) = bootstrap_auroc(normal, malicious, seed=seed)
    return ProbeScore(
        auroc=auroc,
        low=low,
        high=high,
        threshold=float(np.quantile(normal, 1 - FALSE_POSITIVES)),
        held_out=len(normal) + len(malicious),
    )
