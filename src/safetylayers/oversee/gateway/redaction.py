"""Writing over what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from safetylayers.errors import GuardError
from safetylayers.oversee.guards.base import Finding
from safetylayers.oversee.words import Message


def redact(text: str, start: int, end: int, findings: Sequence[Finding]) -> str:
    """Return text[start:end] with findings written over; where they overlap, the first one's replacement stands.

    Raises:
        GuardError: a finding begins before `start`: part of what is to be written over has left already.
    """
    parts, place, written = [], start, -1
    for finding in sorted(findings, key=lambda found: (found.start, -found.end)):
        if finding.end <= start or finding.start >= end:
            continue
        if finding.start < start or finding.end > end:
            raise GuardError("A finding reaches out of the text that its guard called checked.")
        if finding.start >= written:
            parts += [text[place : finding.start], finding.replacement or ""]
        place = written = max(written, finding.end)
    return "".join(parts) + text[place:end]


def redact_messages(messages: Sequence[Message], findings: Sequence[Finding]) -> tuple[Message, ...]:
    """Write over findings in a conversation whose messages were read as one text, joined by line ends.

    Raises:
        GuardError: a finding reaches from one message into the next.
    """
    redacted, begin = [], 0
    text = "\n".join(message.content for message in messages)
    for message in messages:
        end = begin + len(message.content)
        within = [found for found in findings if found.start < end and found.end > begin]
        redacted.append(replace(message, content=redact(text, begin, end, within)))
        begin = end + 1
    return tuple(redacted)
