"""What is kept for people to look at: replies that wait for them, and samples that have left already."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Row

from safetylayers.oversee.audit.vault import Vault


class Kind(StrEnum):
    """Why a reply is kept."""

    HELD = "held"
    """It waits to be released."""
    SAMPLE = "sample"
    """It has left; somebody looks at it afterwards."""


class State(StrEnum):
    """Where it stands."""

    WAITING = "waiting"
    RELEASED = "released"
    EDITED = "edited"
    """Another text goes out in its place."""
    REJECTED = "rejected"
    EXPIRED = "expired"
    """Nobody decided in time, or nobody waits for it any more."""
    OK = "ok"
    """Of a sample."""
    NOT_OK = "not-ok"
    """Of a sample."""


DECISIONS: Mapping[Kind, frozenset[State]] = {
    Kind.HELD: frozenset({State.RELEASED, State.EDITED, State.REJECTED}),
    Kind.SAMPLE: frozenset({State.OK, State.NOT_OK}),
}
"""What a person can say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A kept reply, without its text."""

    id: str
    kind: Kind
    request: str
    conversation: str | None
    key: str
    """Id of the key or session that asked."""
    asked_by: str
    """Id of the person whose key that is."""
    created: datetime
    deadline: datetime | None
    """None for samples."""
    state: State
    findings: list[dict[str, Any]]
    """What was found, by kind and score; no text."""
    decided_by: str | None
    """Id of a person."""
    decided: datetime | None


@dataclass(frozen=True, slots=True)
class Texts:
    """What was said."""

    prompt: str
    reply: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a held reply."""

    id: str
    state: State
    text: str | None
    """What may leave; None for nothing."""
    reason: str | None


def held_of(row: Row[Any]) -> Held:
    """Return a row without its texts."""
    return Held(
        id=row.id,
        kind=Kind(row.kind),
        request=row.request,
        conversation=row.conversation,
        key=row.key,
        asked_by=row.asked_by,
        created=row.created,
        deadline=row.deadline,
        state=State(row.state),
        findings=row.findings,
        decided_by=row.decided_by,
        decided=row.decided,
    )


def texts_of(row: Row[Any], vault: Vault) -> Texts:
    """Open a row's texts. Raises AuditError where they were changed."""
    return Texts(*_opened(vault, row.sealed, row.id))


def outcome_of(row: Row[Any], vault: Vault) -> Outcome:
    """Return what became of a row. Text comes only from a decision whose seal opens.

    Raises:
        AuditError: the row was changed.
    """
    state, text, reason = State(row.state), None, None
    if state in DECISIONS[Kind(row.kind)]:
        text, reason = _opened(vault, row.sealed_decision or b"", f"{row.id} {state}")
    if state is State.RELEASED:
        text = texts_of(row, vault).reply
    return Outcome(id=row.id, state=state, text=text, reason=reason)


def sealed_texts(vault: Vault, held: str, texts: Texts) -> bytes:
    """Seal a reply's texts."""
    return _sealed(vault, [texts.prompt, texts.reply], held)


def sealed_decision(vault: Vault, held: str, state: State, text: str | None, reason: str) -> bytes:
    """Seal what a person said. The seal is for this decision alone: a row that is made to say another does not open."""
    return _sealed(vault, [text, reason], f"{held} {state}")


def _sealed(vault: Vault, texts: Sequence[str | None], context: str) -> bytes:
    return vault.seal(json.dumps(texts).encode(), context=f"held {context}".encode())


def _opened(vault: Vault, sealed: bytes, context: str) -> list[Any]:
    texts: list[Any] = json.loads(vault.open(bytes(sealed), context=f"held {context}".encode()))
    return texts
