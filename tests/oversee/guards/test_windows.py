from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from safetylayers.oversee.guards import Passage
from safetylayers.oversee.guards.windows import WindowSettings, windows

SETTINGS = WindowSettings(every=4, context=3, request=10)


def test_a_reply_is_read_in_whole_windows_with_context() -> None:
    assert [tuple(window) for window in windows(Passage("output", "abcdefghij", final=False), SETTINGS)] == [
        (0, 4, "abcd"),
        (4, 8, "bcdefgh"),
    ]
    assert [tuple(window) for window in windows(Passage("output", "abcdefghij", start=8), SETTINGS)] == [
        (8, 10, "fghij")
    ]


def test_nothing_new_is_no_window() -> None:
    assert windows(Passage("output", "abc", final=False), SETTINGS) == []
    assert windows(Passage("output", "abcd", start=4), SETTINGS) == []
    assert windows(Passage("output", ""), SETTINGS) == []


def test_a_request_is_read_in_larger_parts() -> None:
    assert [window.text for window in windows(Passage("input", "abcdefghij"), SETTINGS)] == ["abcdefghij"]
    assert [window.text for window in windows(Passage("input", "abcdefghijk"), SETTINGS)] == ["abcdefghij", "hijk"]


@given(st.text(max_size=40), st.integers(0, 40))
def test_windows_leave_nothing_out(text: str, start: int) -> None:
    start = min(start, len(text)) // 4 * 4
    found = windows(Passage("output", text, start), SETTINGS)
    assert "".join(window.text[window.start - window.end :] for window in found) == text[start:]
    assert all(text[: window.end].endswith(window.text) for window in found)
    assert [window.start for window in found] == [start, *(window.end for window in found)][: len(found)]
