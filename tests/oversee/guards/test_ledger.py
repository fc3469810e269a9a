from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetylayers.errors import GuardError
from safetylayers.oversee.guards import Ledger

GUARDS = ("a", "b", "c")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("see"), st.none(), st.integers(0, 20)),
        st.tuples(st.just("record"), st.sampled_from((*GUARDS, "stranger")), st.integers(-2, 22)),
        st.tuples(st.just("release"), st.none(), st.integers(-2, 22)),
    ),
    max_size=40,
)


@given(STEPS, st.sets(st.sampled_from(GUARDS), min_size=1), st.integers(0, 20))
def test_in_no_order_does_unchecked_text_go_out(
    steps: list[tuple[str, str | None, int]], guards: set[str], length: int
) -> None:
    ledger, checked, out = Ledger(guards), dict.fromkeys(guards, 0), 0
    for step, guard, place in steps:
        # A refused step changes nothing, so what is counted here is what was taken.
        with contextlib.suppress(GuardError):
            if step == "see":
                ledger.see(place)
            elif step == "record":
                ledger.record(guard or "", place)
                assert place >= checked[guard or ""]
                checked[guard or ""] = place
            else:
                ledger.release(place)
                out = place
        assert ledger.released == out <= ledger.cleared == min(checked.values())
    with contextlib.suppress(GuardError):
        ledger.finish(length)
        assert out == length == min(checked.values()) == max(checked.values())


def test_a_reply_goes_out_as_far_as_all_have_checked() -> None:
    ledger = Ledger(["a", "b"])
    ledger.see(10)
    ledger.record("a", 10)
    assert ledger.cleared == 0
    ledger.record("b", 7)
    assert ledger.cleared == 7
    ledger.release(7)
    ledger.record("b", 10)
    ledger.release(10)
    ledger.finish(10)


def test_without_guards_what_was_seen_goes_out() -> None:
    ledger = Ledger([])
    ledger.see(5)
    assert ledger.cleared == 5
    ledger.release(5)
    ledger.finish(5)
    with pytest.raises(GuardError, match="go out"):
        ledger.release(6)


def test_every_step_that_cannot_be_right_is_an_error() -> None:
    ledger = Ledger(["a"])
    ledger.see(10)
    ledger.record("a", 6)
    ledger.release(4)
    for step in (
        lambda: ledger.record("b", 1),
        lambda: ledger.record("a", 5),
        lambda: ledger.record("a", 11),
        lambda: ledger.release(7),
        lambda: ledger.release(3),
        lambda: ledger.see(5),
        lambda: ledger.finish(10),
        lambda: ledger.finish(4),
    ):
        with pytest.raises(GuardError, match="does not add up"):
            step()
    assert (ledger.cleared, ledger.released) == (6, 4)
