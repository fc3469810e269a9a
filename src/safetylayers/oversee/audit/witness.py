"""The witness file: every checkpoint, as soon as it is committed. Kept elsewhere, it shows that a log was rewritten."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

from safetylayers.errors import AuditError
from safetylayers.oversee.audit.checkpoint import split_notes

logger = logging.getLogger(__name__)


class Witness:
    """A file that only grows. It may be moved away at any time; the next checkpoint begins another one."""

    def __init__(self, path: Path) -> None:
        """Take the file's path; it is made when there is something to write."""
        self._path = path
        self._lock = threading.Lock()
        self.error: str | None = None
        """Why the last checkpoint is not in the file; None where it is."""

    def add(self, note: str) -> None:
        """Append a checkpoint. What goes wrong is kept in `error` and warned of when it begins."""
        with self._lock:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with os.fdopen(os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab") as file:
                    # The empty lines come first: they end whatever a crash has cut short.
                    file.write(f"\n\n{note}".encode())
            except OSError as error:
                if self.error is None:
                    logger.warning("%s: checkpoints cannot be written to the witness file (%s)", self._path, error)
                self.error = error.strerror or type(error).__name__
            else:
                self.error = None


def read_witness(path: Path) -> list[str]:
    """Return the checkpoints that a witness file holds.

    Raises:
        AuditError: it cannot be read, or holds none: it vouches for nothing then, and must not pass for one that does.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            notes = list(split_notes(lines))
    except (OSError, UnicodeDecodeError) as error:
        raise AuditError(f"{path}: cannot be read ({error}).", mend="Give the log's witness file.") from error
    if not notes:
        raise AuditError(f"{path}: holds no checkpoint.", mend="Give a copy of the log's witness file.")
    return notes
