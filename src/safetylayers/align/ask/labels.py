"""Where people's answers are kept: one SQLite file, which several processes may use at the same time.

Nothing is overwritten. An answer that is changed or taken back stays in the history; the latest one of each person to
each question counts.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

from safetylayers.align.ask.questions import Question
from safetylayers.errors import DataError, OutputError, SafetyLayersError, UsageError
from safetylayers.prompts.pairs import PairSet
from safetylayers.prompts.table import Row, read_rows
from safetylayers.records import write_text

Answer = Literal["first", "second", "equal", "skip"]
ANSWERS: tuple[str, ...] = get_args(Answer)
WITHDRAWN = "withdrawn"
VERSION = 1
APPLICATION = 0x534C4142
"""SQLite's application id of these files: "SLAB"."""
PATIENCE_SECONDS = 20.0
"""For which a process waits until another has written."""
LONGEST_NAME = 100
MOST_SECONDS = 1e9
"""That an answer may have taken: some thirty years. Sums of a few of them stay finite."""

_SCHEMA = """
CREATE TABLE questions (id TEXT PRIMARY KEY, question TEXT NOT NULL);
CREATE TABLE answers (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  question TEXT NOT NULL REFERENCES questions (id),
  answer TEXT NOT NULL CHECK (answer IN ('first', 'second', 'equal', 'skip', 'withdrawn')),
  person TEXT NOT NULL CHECK (person <> ''),
  at TEXT NOT NULL,
  seconds REAL
);
CREATE INDEX answers_of ON answers (question, person, number);
"""
_CURRENT = """
SELECT question, answer, person, at, seconds FROM answers
WHERE number IN (SELECT MAX(number) FROM answers GROUP BY question, person) AND answer <> 'withdrawn'
ORDER BY number
"""
_INSERT = "INSERT INTO answers (question, answer, person, at, seconds) VALUES (?, ?, ?, ?, ?)"


@dataclass(frozen=True)
class Label:
    """One person's answer to one question."""

    question: str
    """Its id."""
    answer: str
    """One of `ANSWERS`; in the history also `WITHDRAWN`."""
    by: str
    at: str
    """ISO 8601, UTC."""
    seconds: float | None = None
    """From when it was shown; None where nobody knows."""


class Labels:
    """A store of questions and of people's answers to them."""

    def __init__(self, path: str | Path) -> None:
        """Open a store, or begin one.

        Raises:
            DataError: the file is no such store, is damaged, or was written by a later version.
            OutputError: it cannot be written.
        """
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(str(error.strerror)) from error
        with self._open() as database:
            self._prepare(database)

    def add(self, questions: Sequence[Question]) -> None:
        """Keep questions; those that are there already stay as they are. Raises DataError or OutputError."""
        rows = [(question.id, question.to_json()) for question in questions]
        with self._write() as database:
            database.executemany("INSERT OR IGNORE INTO questions (id, question) VALUES (?, ?)", rows)

    def answer(self, question: str, answer: Answer, *, by: str, seconds: float | None = None) -> None:
        """Keep an answer, in place of this person's earlier one.

        Args:
            question: its id.
            answer: which reply is better.
            by: who says so.
            seconds: that it took.

        Raises:
            UsageError: there is no such question, answer, name or time.
            DataError: the store is damaged.
            OutputError: it cannot be written.
        """
        if answer not in ANSWERS:
            raise UsageError(f"There is no answer {answer!r}.", mend=f"Answer one of: {', '.join(ANSWERS)}.")
        if seconds is not None and not _is_time(seconds):
            raise UsageError(f"{seconds} seconds are no time.", mend="Give a number from 0 up, or none.")
        label = Label(question, answer, checked_name(by), _now(), seconds)
        with self._write() as database:
            if not self._knows(database, question):
                raise UsageError(f"There is no question {question!r}.", mend="Add it first.")
            _keep(database, label)

    def withdraw(self, question: str, *, by: str) -> None:
        """Take this person's answer back; the question is open again. Raises UsageError, DataError or OutputError."""
        name = checked_name(by)
        with self._write() as database:
            if self._knows(database, question) and _current_answer(database, question, name) is not None:
                database.execute(_INSERT, (question, WITHDRAWN, name, _now(), None))

    def current(self) -> list[Label]:
        """Return everybody's answers as they stand, the latest last. Raises DataError or OutputError."""
        with self._open() as database:
            return [Label(*row) for row in database.execute(_CURRENT)]

    def history(self, question: str) -> list[Label]:
        """Return all that was ever answered to a question, the latest last. Raises DataError or OutputError."""
        with self._open() as database:
            found = database.execute(
                "SELECT question, answer, person, at, seconds FROM answers WHERE question = ? ORDER BY number",
                (question,),
            )
            return [Label(*row) for row in found]

    def questions(self) -> dict[str, Question]:
        """Return all questions by their ids. Raises DataError or OutputError."""
        with self._open() as database:
            rows = database.execute("SELECT id, question FROM questions ORDER BY rowid").fetchall()
        try:
            return {id_: Question.from_json(text) for id_, text in rows}
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged(str(error)) from error

    def pairs(self) -> PairSet:
        """Return the answers that name a better reply, with who gave them. Raises DataError or OutputError."""
        asked = self.questions()
        decided = [label for label in self.current() if label.answer in ("first", "second")]
        found = [asked[label.question].pair(label.answer == "first", by=label.by) for label in decided]
        return PairSet(self.path.stem, tuple(found))

    def write_pairs(self, path: Path) -> int:
        """Write `pairs` as JSONL that `load_pairs` reads; return how many. Raises DataError or OutputError."""
        found = self.pairs()
        rows = [
            {
                "prompt": list(pair.messages),
                "chosen": pair.chosen,
                "rejected": pair.rejected,
                "value": pair.value,
                "category": pair.category,
                "by": pair.by,
            }
            for pair in found
        ]
        write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        return len(found)

    def take_answers(self, path: str | Path, *, by: str = "") -> int:
        """Keep the answers in a file, all of them or none; return how many rows there were.

        A row is `{"id": ..., "answer": ..., "by": ...}`, perhaps with `seconds`; other columns do not matter.

        Args:
            path: of a file of rows.
            by: who answered, for rows that do not say.

        Raises:
            DataError: a row is malformed, or asks about a question that the store does not know; it says which.
            OutputError: the store cannot be written.
        """
        rows = list(read_rows(path))
        labels = [_label(row, by) for row in rows]
        with self._write() as database:
            for row, label in zip(rows, labels, strict=True):
                if not self._knows(database, label.question):
                    raise DataError(
                        f"{row.place}: no question has the id {label.question!r}.",
                        mend="Take ids from the file that --questions-out wrote, with the same --store.",
                    )
                _keep(database, label)
        return len(rows)

    @staticmethod
    def _knows(database: sqlite3.Connection, question: str) -> bool:
        try:
            return database.execute("SELECT 1 FROM questions WHERE id = ?", (question,)).fetchone() is not None
        except UnicodeEncodeError:  # half a character: no id has one
            return False

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        """Within the block, nobody else writes; all of it is kept, or nothing."""
        with self._open() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
            except BaseException:
                database.rollback()
                raise
            database.commit()

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """Open a connection for the block, so that threads and processes share nothing but the file."""
        try:
            with closing(sqlite3.connect(self.path, timeout=PATIENCE_SECONDS, isolation_level=None)) as database:
                database.execute("PRAGMA foreign_keys = ON")
                yield database
        except sqlite3.Error as error:
            raise self._trouble(error) from error

    def _prepare(self, database: sqlite3.Connection) -> None:
        """Look before touching anything: it may be somebody else's database."""
        if self._is_store(database):
            return
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("BEGIN IMMEDIATE")
        if not self._is_store(database):  # another process may have been quicker
            for statement in _SCHEMA.split(";\n"):
                database.execute(statement)
            database.execute(f"PRAGMA application_id = {APPLICATION}")
            database.execute(f"PRAGMA user_version = {VERSION}")
        database.commit()

    def _is_store(self, database: sqlite3.Connection) -> bool:
        """Return whether it is a store, and not an empty file. Raises DataError where it is anything else."""
        [application], [version], [tables] = (
            database.execute(question).fetchone()
            for question in ("PRAGMA application_id", "PRAGMA user_version", "SELECT COUNT(*) FROM sqlite_master")
        )
        if (application, version, tables) == (0, 0, 0):
            return False
        if application != APPLICATION:
            raise DataError(f"{self.path}: a database, but not one of answers.", mend="Give another --store.")
        if version > VERSION:
            raise DataError(
                f"{self.path}: written by a later version of safetylayers (schema {version}; known: {VERSION}).",
                mend="Update safetylayers, or give another --store.",
            )
        return True

    def _trouble(self, error: sqlite3.Error) -> SafetyLayersError:
        """Return what a SQLite error means to a user; extended codes hold the primary one in their lowest byte."""
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        if code == sqlite3.SQLITE_NOTADB:
            return DataError(f"{self.path}: not a store of answers.", mend="Give another --store.")
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return OutputError(
                f"{self.path}: another process has held it for {PATIENCE_SECONDS:.0f} seconds.", mend="Try again."
            )
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
            return self._unwritable(str(error))
        return self._damaged(str(error))

    def _unwritable(self, why: str) -> OutputError:
        return OutputError(
            f"{self.path}: cannot be written ({why}). Answers that were kept before are safe.",
            mend="Free some room, check the permissions, or give another --store.",
        )

    def _damaged(self, why: str) -> DataError:
        return DataError(f"{self.path}: the store is damaged ({why}).", mend="Take a copy that is whole.")


def checked_name(by: str) -> str:
    """Return a person's name without space around it. Raises UsageError where it is none."""
    name = by.strip()
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise UsageError(
            f"{name[:LONGEST_NAME]!r} is no name.", mend=f"Give a name of 1 to {LONGEST_NAME} characters on one line."
        )
    return name


def _is_time(seconds: float) -> bool:
    return 0 <= seconds <= MOST_SECONDS


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _current_answer(database: sqlite3.Connection, question: str, by: str) -> str | None:
    found = database.execute(
        "SELECT answer FROM answers WHERE question = ? AND person = ? ORDER BY number DESC LIMIT 1", (question, by)
    ).fetchone()
    return None if found is None or found[0] == WITHDRAWN else str(found[0])


def _keep(database: sqlite3.Connection, label: Label) -> None:
    """Insert an answer, unless the person has said the same already: a file may be taken twice."""
    if _current_answer(database, label.question, label.by) != label.answer:
        database.execute(_INSERT, (label.question, label.answer, label.by, label.at, label.seconds))


def _label(row: Row, by: str) -> Label:
    question, answer, seconds = (row.fields.get(column) for column in ("id", "answer", "seconds"))
    if not isinstance(question, str) or answer not in ANSWERS:
        raise DataError(
            f"{row.place}: not an answer.",
            mend=f'Write {{"id": ..., "answer": ..., "by": ...}}, the answer one of {", ".join(ANSWERS)}.',
        )
    try:
        name = checked_name(str(row.fields.get("by") or by))
        taken = None if seconds in (None, "") else float(str(seconds))
    except UsageError as error:
        raise DataError(f"{row.place}: {error.message}", mend="Say in 'by' who answered, or give --by.") from error
    except ValueError:
        taken = float("nan")
    if taken is not None and not _is_time(taken):
        raise DataError(f"{row.place}: seconds {seconds!r} is no number from 0 up.", mend="Mend it, or leave it out.")
    return Label(question, str(answer), name, _now(), taken)
