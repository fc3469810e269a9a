"""An audit's page says what was found, and that nothing was where nothing was."""

from __future__ import annotations

import pytest

from safetylayers.align.audit import AuditedPrompt, TellingPair, ValueAudit, Weight
from safetylayers.align.audit.pages import audit_page
from safetylayers.records import Estimate, Provenance
from safetylayers.report import render_page


def weight(mean: float) -> Weight:
    gap = Estimate(mean=mean, low=mean - 0.1, high=mean + 0.1, total=9)
    return Weight(
        mean=mean, low=mean - 0.5, high=mean + 0.5, above=0.5, given_low=mean - 0.2, given_high=mean + 0.2, gap=gap
    )


def record(*, differs: bool = True, unfamiliar: int = 0, correlation: float = 0.1) -> ValueAudit:
    return ValueAudit(
        provenance=Provenance(model="made", model_hash="1" * 64, data={"asked": "2" * 64}), base="origin",
        base_hash="3" * 64, method="preference", weights={"kind": weight(1.0), "brief": weight(0.2)},
        undecided=("brief",),
        correlation={"kind": {"kind": 1.0, "brief": correlation}, "brief": {"kind": correlation, "brief": 1.0}},
        held_out=Estimate(mean=0.7, low=0.6, high=0.8, total=9), differs=differs, replies=1, pairs=9, empty=2,
        unfamiliar=unfamiliar,
        prompts=(AuditedPrompt(prompt="Is it so?", pairs=9, mean=0.0, low=-1.0, high=1.0, undecided=True),),
        telling=(TellingPair(prompt="How <b>is</b> it?", model="Fine " * 60, base="So so", gap=2.5),),
    )  # fmt: skip


def test_the_page_shows_weights_pairs_and_what_it_cannot_tell() -> None:
    html = render_page(audit_page(record()))
    for said in ("What each value weighs", "The most telling pairs", "Decided: kind up.", "Undecided values: brief."):
        assert said in html
    assert "1 of 1 prompts" in html
    assert "How <b>" not in html
    assert "Fine " * 60 not in html
    assert "unlike all" not in html


def test_two_models_that_are_not_told_apart_have_no_weights_to_read() -> None:
    html = render_page(audit_page(record(differs=False)))
    assert "Not told apart" in html
    assert "Decided:" not in html


@pytest.mark.parametrize("correlation", [0.9, -0.9])
def test_values_that_cannot_be_told_apart_are_named_and_unfamiliar_replies_counted(correlation: float) -> None:
    html = render_page(audit_page(record(unfamiliar=4, correlation=correlation)))
    assert "kind and brief" in html
    assert "4 of 18 replies are unlike all" in html
