"""The table of policies."""

from __future__ import annotations

from sqlalchemy import Column, Integer, String, Table, Text

from safetylayers.oversee.identity.times import Moment
from safetylayers.oversee.store.database import metadata

policies = Table(
    "policies",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("hash", String(64), nullable=False),
    Column("text", Text, nullable=False),
    Column("since", Moment, nullable=False),
    Column("proposal", String(64)),
)
