"""The account of one reply: what each guard has checked, and what has gone out.

Nothing goes out by this account that any guard has not checked. It holds no text, only places in it, and every step
that cannot be right is an error.
"""

from __future__ import annotations

from collections.abc import Collection

from safetylayers.errors import GuardError


class Ledger:
    """Counts the checks of one reply."""

    def __init__(self, guards: Collection[str]) -> None:
        """Begin a reply that these guards check."""
        self._checked = dict.fromkeys(guards, 0)
        self._seen: int | None = None
        self._released = 0

    @property
    def cleared(self) -> int:
        """How far every guard has checked; without guards, all text that was seen."""
        return min(self._checked.values(), default=self._seen or 0)

    @property
    def released(self) -> int:
        """How much has gone out."""
        return self._released

    def see(self, length: int) -> None:
        """Take note that so much text has come; from then on, nothing behind it can be checked or go out.

        Raises:
            GuardError: the text has become shorter.
        """
        if length < max(self._seen or 0, self._released, *self._checked.values()):
            raise _wrong("a reply has become shorter")
        self._seen = length

    def record(self, guard: str, checked: int) -> None:
        """Take note that a guard has checked so far.

        Raises:
            GuardError: there is no such guard, it goes backwards, or beyond the text seen.
        """
        if guard not in self._checked:
            raise _wrong(f"{guard} is no guard of this reply")
        if checked < self._checked[guard] or self._is_unseen(checked):
            raise _wrong(f"{guard} goes backwards or beyond the text")
        self._checked[guard] = checked

    def release(self, upto: int) -> None:
        """Take note that the text before a place goes out.

        Raises:
            GuardError: a guard has not checked it, it has not come yet, or more has gone out already.
        """
        if any(checked < upto for checked in self._checked.values()) or self._is_unseen(upto):
            raise _wrong("text was about to go out that not every guard has checked")
        if upto < self._released:
            raise _wrong("text that has gone out cannot be taken back")
        self._released = upto

    def finish(self, length: int) -> None:
        """Make sure that the whole reply, of so many characters, was checked by every guard and has gone out.

        Raises:
            GuardError: that is not so.
        """
        if self._released != length or any(checked != length for checked in self._checked.values()):
            raise _wrong("a reply was about to end before all of it was checked and out")

    def _is_unseen(self, place: int) -> bool:
        return self._seen is not None and place > self._seen


def _wrong(what: str) -> GuardError:
    return GuardError(
        f"The account of a reply does not add up: {what}.", mend="This is a fault here: please report it."
    )
