"""Drafts the migration from the newest one in the package to what the rooms' tables say now.

    python tests/oversee/store/draft_migration.py "what changes"

As long as no release has gone out, the first migration is drafted anew: delete `migrations/versions/v0001_*.py` first.
Alembic loses a CheckConstraint that stands within a Column; beside the columns it is kept. `test_schema.py` finds
whatever a draft lacks.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from alembic import command
from alembic.autogenerate.api import AutogenContext
from sqlalchemy.types import TypeDecorator

import safetylayers.oversee
from safetylayers.oversee.store.database import Database
from safetylayers.oversee.store.schema import config, upgrade


def import_all_tables() -> None:
    """Import every room's tables."""
    for path in Path(safetylayers.oversee.__path__[0]).glob("*/tables.py"):
        import_module(f"safetylayers.oversee.{path.parent.name}.tables")


def plain_type(kind: str, item: Any, context: AutogenContext) -> str | Literal[False]:
    """Write a room's own column type as the type it is kept as: migrations import no rooms."""
    if kind == "type" and isinstance(item, TypeDecorator):
        return f"sa.{item.impl_instance!r}"
    return False


def draft(message: str) -> Path:
    """Write the migration and return its path."""
    import_all_tables()
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/now.sqlite")
        upgrade(database)
        with database.write() as connection:
            settings = config(connection)
            number = len(list(Path(settings.get_main_option("script_location") or "").glob("versions/v*.py"))) + 1
            settings.set_main_option("file_template", "v%%(rev)s_%%(slug)s")
            # SQLite changes a table by making another; new tables need no such detour.
            settings.attributes["options"] = {"render_item": plain_type, "render_as_batch": number > 1}
            script: Any = command.revision(settings, message, autogenerate=True, rev_id=f"{number:04}")
        database.close()
    path = Path(script.path)
    lines = [line for line in path.read_text("utf-8").splitlines(keepends=True) if not line.startswith("    # ###")]
    path.write_text("".join(lines), "utf-8")
    return path


if __name__ == "__main__":
    path = draft(sys.argv[1])
    for step in (["check", "--fix", "--quiet"], ["format", "--quiet"]):
        subprocess.run(["ruff", *step, str(path)], check=False)
    sys.stdout.write(f"{path}: read it, and mend what it gets wrong.\n")
