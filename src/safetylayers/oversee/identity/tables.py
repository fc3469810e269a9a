"""The tables of people, sessions, keys and proposals."""

from __future__ import annotations

from sqlalchemy import JSON, Boolean, Column, ForeignKey, Index, Integer, String, Table, Text

from safetylayers.oversee.identity.times import Moment
from safetylayers.oversee.store.database import metadata

ID = String(64)
"""Room for any id."""

people = Table(
    "people",
    metadata,
    Column("id", ID, primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("password", Text, nullable=False),
    Column("roles", JSON, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("created", Moment, nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("token", String(64), primary_key=True),
    Column("person", ID, ForeignKey(people.c.id), nullable=False, index=True),
    Column("created", Moment, nullable=False),
    Column("seen", Moment, nullable=False),
    Column("expires", Moment, nullable=False),
)

attempts = Table(
    "attempts",
    metadata,
    Column("bucket", String(64), primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("last", Moment, nullable=False),
    Column("closed_until", Moment, nullable=False),
)

keys = Table(
    "keys",
    metadata,
    Column("id", ID, primary_key=True),
    Column("secret", String(64), nullable=False),
    Column("old_secret", String(64)),
    Column("old_until", Moment),
    Column("name", String(64), nullable=False),
    Column("owner", ID, ForeignKey(people.c.id), nullable=False, index=True),
    Column("roles", JSON, nullable=False),
    Column("models", JSON(none_as_null=True)),
    Column("requests_per_minute", Integer),
    Column("created", Moment, nullable=False),
    Column("expires", Moment, nullable=False),
    Column("revoked", Moment),
    Column("used", Moment),
)

proposals = Table(
    "proposals",
    metadata,
    Column("id", ID, primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("content", JSON, nullable=False),
    Column("reason", Text, nullable=False),
    Column("proposer", ID, ForeignKey(people.c.id), nullable=False),
    Column("created", Moment, nullable=False),
    Column("expires", Moment, nullable=False),
    Column("state", String(16), nullable=False),
    Column("decided_by", ID),
    Column("decided", Moment),
    Column("remark", Text),
    Index("proposals_by_state", "state", "expires"),
)
