"""The tables of the mode and of the replicas that obey it."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Float, Integer, String, Table, Text

from safetylayers.oversee.identity.times import Moment
from safetylayers.oversee.store.database import metadata

mode = Table(
    "mode",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("mode", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("by", String(200), nullable=False),
    Column("since", Moment, nullable=False),
    Column("epoch", Integer, nullable=False),
    CheckConstraint("id = 1"),
)

replicas = Table(
    "replicas",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("lease_s", Float, nullable=False),
    Column("started", Moment, nullable=False),
    Column("seen", Moment, nullable=False, index=True),
    Column("epoch", Integer, nullable=False),
    Column("running", Integer, nullable=False),
    Column("state", String(16), nullable=False),
)
