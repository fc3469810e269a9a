"""What alembic runs: all steps on the connection that it was given, in the transaction that is open there."""

from __future__ import annotations

from alembic import context

from safetylayers.oversee.store.database import metadata

attributes = context.config.attributes
context.configure(
    connection=attributes["connection"],
    target_metadata=metadata,
    **attributes.get("options", {}),
)
context.run_migrations()
