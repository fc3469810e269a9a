"""The log's tables. What is vouched for by the tree is in `log_entries.leaf`; the rest can be made again or erased."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, LargeBinary, String, Table, Text

from safetylayers.oversee.store.database import metadata

Number = BigInteger().with_variant(Integer, "sqlite")
"""SQLite finds rows by their integer key only where the type is called so."""

log_entries = Table(
    "log_entries",
    metadata,
    Column("index", Number, primary_key=True, autoincrement=False),
    Column("kind", String(500), nullable=False),
    Column("leaf", LargeBinary, nullable=False),
    Column("leaf_hash", LargeBinary, nullable=False),
    Index("log_entries_by_kind", "kind", "index"),
)

log_payloads = Table(
    "log_payloads",
    metadata,
    Column("index", Number, primary_key=True, autoincrement=False),
    Column("time", Number, nullable=False, index=True),
    Column("ciphertext", LargeBinary, nullable=False),
)

log_keys = Table(
    "log_keys",
    metadata,
    Column("index", Number, primary_key=True, autoincrement=False),
    Column("subject", String(500), nullable=False, index=True),
    Column("wrapped", LargeBinary, nullable=False),
)

log_head = Table(
    "log_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("size", Number, nullable=False),
    Column("frontier", LargeBinary, nullable=False),
    Column("checkpoint", Text, nullable=False),
    CheckConstraint("id = 1"),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("size", Number, primary_key=True, autoincrement=False),
    Column("note", Text, nullable=False),
)
