"""The tables of replies for people to look at, and of overrides."""

from __future__ import annotations

from sqlalchemy import JSON, Column, Index, LargeBinary, String, Table, Text

from safetylayers.oversee.identity.times import Moment
from safetylayers.oversee.store.database import metadata

held = Table(
    "held",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("request", String(200), nullable=False, index=True),
    Column("conversation", String(200)),
    Column("key", String(64), nullable=False),
    Column("asked_by", String(64), nullable=False),
    Column("created", Moment, nullable=False),
    Column("deadline", Moment),
    Column("state", String(16), nullable=False),
    Column("findings", JSON, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("decided_by", String(64)),
    Column("decided", Moment),
    Column("sealed_decision", LargeBinary),
    Index("held_by_state", "state", "created"),
)

overrides = Table(
    "overrides",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("verdict", String(16), nullable=False),
    Column("request", String(200)),
    Column("conversation", String(200)),
    Column("asked_by", String(64), nullable=False),
    Column("reason", Text, nullable=False),
    Column("by", String(64), nullable=False),
    Column("created", Moment, nullable=False),
    Column("expires", Moment, nullable=False, index=True),
)
