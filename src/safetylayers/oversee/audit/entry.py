"""What is written into the log, and the exact bytes of it that are hashed: a leaf of the log's tree.

A leaf is JSON in one canonical form: keys sorted, no spaces, everything beyond ASCII escaped. Outside tools hash the
stored bytes as they are and need not make them again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeAlias

from safetylayers.errors import AuditError

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"

VERSION = 1
"""Of the leaf's form."""

_LONGEST_NAME = 500
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Something that happened."""

    kind: str
    """What: "request", "stop" and the like."""
    actor: str
    """Who did it: the id of a person, of a key, or of a part of the gateway."""
    facts: Mapping[str, JSON] = field(default_factory=dict)
    """Kept for ever and in clear: numbers, names, ids, and no text that people wrote."""
    payload: Mapping[str, JSON] | None = None
    """What people wrote. It is encrypted, and can be erased while the log still verifies."""
    subject: str = ""
    """Whose data the payload is; kept beside the payload's key and erased with it."""

    def check(self) -> None:
        """Raise AuditError where a name cannot be kept by every database."""
        for name in (self.kind, self.actor, self.subject):
            if len(name) > _LONGEST_NAME or "\0" in name or not _is_text(name):
                raise AuditError(
                    "A kind, actor or subject cannot be logged.",
                    mend=f"Use at most {_LONGEST_NAME} characters of valid Unicode.",
                )
        if not self.kind:
            raise AuditError("An entry has no kind.", mend="Say what happened.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """A leaf, read."""

    index: int
    """Its place in the log; the first is 0."""
    time: datetime
    kind: str
    actor: str
    facts: Mapping[str, JSON]
    commitment: bytes | None
    """SHA-256 of the payload's salt and the payload; None where there is none."""

    @classmethod
    def parse(cls, leaf: bytes) -> Leaf:
        """Read a leaf's bytes. Raises AuditError."""
        try:
            fields = json.loads(leaf)
            if fields.pop("version") != VERSION:
                raise AuditError("A leaf is of another version.", mend="Read it with the version that wrote it.")
            commitment = fields.pop("commitment")
            time = datetime.fromisoformat(fields.pop("time"))
            return cls(**fields, time=time, commitment=None if commitment is None else bytes.fromhex(commitment))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise AuditError("A leaf is not what the log writes.", mend="Verify the log.") from error


def canonical(value: JSON) -> bytes:
    """Return a value as canonical JSON.

    Raises:
        AuditError: it holds something that JSON cannot hold, such as NaN.
    """
    try:
        return _ENCODER.encode(value).encode("ascii")
    except (ValueError, TypeError, RecursionError) as error:
        raise AuditError(
            f"An entry cannot be written as JSON ({error}).", mend="Use numbers, texts, lists and mappings only."
        ) from error


@dataclass(frozen=True, slots=True)
class Draft:
    """A leaf without what only the log knows: its index and time."""

    start: bytes
    end: bytes

    @classmethod
    def of(cls, entry: Entry, commitment: bytes | None) -> Draft:
        """Make ready all that can be before the entry's turn comes. Raises AuditError."""
        whole = canonical(
            {
                "actor": entry.actor,
                "commitment": None if commitment is None else commitment.hex(),
                "facts": entry.facts,
            }
        )
        return cls(whole[:-1] + b',"index":', b',"kind":%b,"time":' % canonical(entry.kind))

    def leaf(self, index: int, time: datetime) -> bytes:
        """Return the leaf."""
        return b'%b%d%b"%b","version":%d}' % (self.start, index, self.end, stamp(time).encode("ascii"), VERSION)


def stamp(time: datetime) -> str:
    """Return a time as leaves hold it: RFC 3339, UTC, microseconds."""
    return time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def microseconds(time: datetime) -> int:
    """Return a time as microseconds since 1970, for columns that are searched."""
    since = time - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
