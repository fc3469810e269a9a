"""Heads on tensors small enough to check."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from safetylayers.attach.gate import GateSettings, HeadCalibration, Inputs, Rules, State, advance
from safetylayers.attach.heads import Heads, HostHeads, pooled

NAMES = ("harm", "refusal")


@pytest.fixture
def hidden() -> torch.Tensor:
    return torch.randn(2, 7, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("width", "pools"), [(0, 0), (0, 3), (5, 0), (5, 3)])
def test_pooled_scores_are_attention_weighted_means_within_each_row(
    hidden: torch.Tensor, width: int, pools: int
) -> None:
    torch.manual_seed(0)
    heads = Heads(2, 16, NAMES, width=width, pools=pools)
    reading = heads(hidden)
    found = pooled(reading, torch.tensor([0, 0, 0, 1, 1, 1, 1]), 2, 2)
    for start, stop in ((0, 3), (3, 7)):
        for t in range(start, stop):
            values = reading.values_SNC[:, t]
            if reading.queries_SNC is not None:
                weights = reading.queries_SNC[:, start : t + 1].softmax(dim=1)
                values = (weights * reading.values_SNC[:, start : t + 1]).sum(dim=1)
            torch.testing.assert_close(found[:, t], values.reshape(2, 2, -1).sum(-1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("width", [0, 5])
def test_the_host_reads_what_the_device_reads(hidden: torch.Tensor, width: int) -> None:
    heads = Heads(2, 16, NAMES, width=width, pools=3).requires_grad_(False)
    expected = torch.cat([heads.read(layer, hidden[layer]) for layer in range(2)], dim=-1)
    found = HostHeads(heads).read([layer.numpy() for layer in hidden])
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-6)


def test_standardised_heads_take_states_as_they_are(hidden: torch.Tensor) -> None:
    heads = Heads(2, 16, NAMES, pools=2).requires_grad_(False)
    mean, deviation = hidden.mean(dim=1), hidden.std(dim=1)
    expected = heads((hidden - mean[:, None]) / deviation[:, None]).values_SNC
    heads.standardise(mean, deviation)
    torch.testing.assert_close(heads(hidden).values_SNC, expected, rtol=1e-4, atol=1e-5)


def test_the_gate_pools_as_training_does(hidden: torch.Tensor) -> None:
    heads = Heads(2, 16, NAMES, pools=3).requires_grad_(False)
    expected = pooled(heads(hidden), torch.zeros(7, dtype=torch.long), 1, 2).mean(dim=0)
    read = HostHeads(heads).read([layer.numpy() for layer in hidden]).reshape(1, 7, 2, -1)
    calibration = {name: HeadCalibration() for name in NAMES}
    rules = Rules(NAMES, calibration, GateSettings(), (), (1,), layers=2, channels=heads.channels)
    inputs = Inputs(read[..., : heads.channels], read[..., heads.channels :], None, None, None)
    _, steps = advance(State.new(["row"], 2 * heads.channels), inputs, rules)
    np.testing.assert_allclose(steps.scores(2, 2)[0].mean(axis=1), expected.numpy(), rtol=1e-5, atol=1e-6)


def test_probes_become_a_head(hidden: torch.Tensor) -> None:
    weights, bias = torch.randn(2, 16), torch.randn(2)
    heads = Heads.of_probes(weights, bias, "harm").requires_grad_(False)
    expected = (hidden * weights[:, None]).sum(-1) + bias[:, None]
    torch.testing.assert_close(heads(hidden).values_SNC[..., 0], expected, rtol=1e-5, atol=1e-5)
