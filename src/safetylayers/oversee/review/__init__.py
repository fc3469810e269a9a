"""Replies that people look at, before they leave or afterwards; and people's word against the gateway's."""

from safetylayers.oversee.review.held import Held, Kind, Outcome, State, Texts
from safetylayers.oversee.review.overrides import Override, Overrides, Verdict
from safetylayers.oversee.review.queue import ReviewDesk
from safetylayers.oversee.review.replies import HeldReplies

__all__ = [
    "Held",
    "HeldReplies",
    "Kind",
    "Outcome",
    "Override",
    "Overrides",
    "ReviewDesk",
    "State",
    "Texts",
    "Verdict",
]
