"""The file of decisions: SQLite, append-only; a row that was acknowledged is on the disk."""

import contextlib
import sqlite3
import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from assay.data.decisions import LABEL, SKIP, UNDO, Decision, DecisionRequest, Stale, State
from assay.errors import BusyError, DataError, ResourceError, UsageError

FILE = "decisions.sqlite"
"""Its name in the folder of a run; ``assay run --decisions`` reads it."""

SCHEMA = 1
"""In ``user_version`` of the file; raised when older files can no longer be read."""

_TABLE = """
CREATE TABLE decisions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    revision INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('label', 'skip', 'undo')),
    before TEXT,
    after TEXT,
    who TEXT NOT NULL,
    at TEXT NOT NULL,
    client TEXT NOT NULL,
    UNIQUE (name, revision)
);
CREATE TRIGGER decisions_never_change BEFORE UPDATE ON decisions
BEGIN SELECT RAISE(ABORT, 'decisions are never changed'); END;
CREATE TRIGGER decisions_never_go BEFORE DELETE ON decisions
BEGIN SELECT RAISE(ABORT, 'decisions are never deleted'); END;
"""

# Names are bytes of a file system and need not be UTF-8, which SQLite's own conversion would refuse.
_INSERT = """
INSERT INTO decisions (name, revision, kind, before, after, who, at, client)
VALUES (CAST(? AS TEXT), ?, ?, CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), ?, ?)
"""
_SELECT = "SELECT id, name, revision, kind, before, after, who, at, client FROM decisions"
_SELECT_NEW = f"{_SELECT} WHERE id > ? ORDER BY id"

_OTHER = "{path}: expected decisions of this version of assay, got another database; name another file"

_WAIT_S = 5.0
"""How long another process may hold the file before a decision is refused."""


@dataclass
class DecisionStore:
    """The open file; its methods may be called from several threads, and several processes may have it."""

    path: Path
    connection: sqlite3.Connection = field(repr=False)
    states: dict[str, State] = field(default_factory=dict, repr=False)
    """Of each image that has a row, as far as the file was read; ``refresh`` reads on, into a new dict."""
    _read: int = 0
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def decide(
        self, name: str, label: str | None, *, noisy: str | None, revision: int, who: str, client: str
    ) -> Decision | Stale:
        """Give an image a label, or leave it without (None); on the disk when this returns.

        Parameters
        ----------
        noisy : the label that came with the image, for the first row
        revision : the one that was looked at; if there is a newer one by now, nothing is written
        """
        (found,) = self.decide_all([DecisionRequest(name, label, noisy, revision)], who=who, client=client)
        return found

    def decide_all(
        self, requests: Sequence[DecisionRequest], *, who: str, client: str
    ) -> list[Decision | Stale]:
        """``decide`` for several images at once: what is not stale is written, or nothing at all."""
        found: list[Decision | Stale] = []
        seen: set[str] = set()
        with self._writing():
            for request in requests:
                state = self.states.get(request.name, State())
                # An image that comes twice: the second one has not seen the first.
                if state.revision != request.revision or request.name in seen:
                    found.append(Stale(request.name, state))
                    continue
                seen.add(request.name)
                before = request.noisy if state.last is None else state.last.after
                kind = SKIP if request.label is None else LABEL
                row = Decision(
                    request.name, request.revision + 1, kind, before, request.label, who, _now(), client
                )
                self._insert(row)
                found.append(row)
        # Only now that they are on the disk do they count here.
        self.refresh()
        return found

    def undo(self, *, who: str, client: str, told: Collection[str] = ()) -> Decision | Stale | None:
        """Take back the newest row that this client wrote; None if it has none left.

        It is stale if the image was decided elsewhere since.

        Parameters
        ----------
        told : images of which the client knows that, whose stale rows are passed over
        """
        with self._writing():
            found = self._newest_of(client, told)
            if found is None:
                return None
            state = self.states[found.name]
            if state.last != found:
                return Stale(found.name, state)
            row = Decision(
                found.name, state.revision + 1, UNDO, found.after, found.before, who, _now(), client
            )
            self._insert(row)
        self.refresh()
        return row

    def add(self, rows: Sequence[Decision]) -> int:
        """Take over rows from another file: of images for which nothing holds here; the number taken.

        They keep who and when, and come after what was taken back here; all are written or none.
        """
        with self._writing():
            states = {row.name: self.states.get(row.name, State()) for row in rows}
            new = [row for row in rows if not states[row.name].history]
            for row in new:
                self._insert(replace(row, revision=states[row.name].revision + row.revision))
        self.refresh()
        return len(new)

    def refresh(self) -> None:
        """Read what other processes wrote."""
        with self._lock, _explained(self.path):
            new: dict[str, State] = {}
            for number, *values in self.connection.execute(_SELECT_NEW, [self._read]):
                row = Decision(*values)
                new[row.name] = new.get(row.name, self.states.get(row.name, State())).then(row)
                self._read = number
            # Another dict, for others may be walking through this one.
            self.states = self.states | new if new else self.states

    def rows(self) -> list[Decision]:
        """Every row there is, in the order in which they were written."""
        with self._lock, _explained(self.path):
            return [Decision(*values[1:]) for values in self.connection.execute(f"{_SELECT} ORDER BY id")]

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self.connection.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """One at a time, over all processes, knowing all rows."""
        with self._lock, _explained(self.path):
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                self.refresh()
                yield
                self.connection.execute("COMMIT")
            finally:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")

    def _insert(self, row: Decision) -> None:
        texts = (_bytes(row.before), _bytes(row.after), _bytes(row.who))
        values = [_bytes(row.name), row.revision, row.kind, *texts, row.at, row.client]
        self.connection.execute(_INSERT, values)

    def _newest_of(self, client: str, told: Collection[str]) -> Decision | None:
        """The client's newest row that nobody took back.

        One that others have replaced since is passed over if the client was told so.
        """
        found = self.connection.execute(
            f"{_SELECT} WHERE client = ? AND kind != 'undo' ORDER BY id DESC", [client]
        )
        rows = (Decision(*values[1:]) for values in found)
        for row in rows:
            state = self.states[row.name]
            if state.last == row or (row in state.history and row.name not in told):
                return row
        return None


def open_decisions(path: Path) -> DecisionStore:
    """The decisions at ``path``; the file is made if there is none.

    Raises
    ------
    DataError : another kind of file, or a damaged one
    UsageError : the place cannot be written to
    BusyError : another process holds the file for too long
    ResourceError : no room
    """
    with _explained(path):
        connection = sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
        try:
            connection.text_factory = _text
            # What was acknowledged must be there after a power cut. FULL does not promise that here: the
            # removal of the journal, which is the commit, may be undone by one.
            connection.execute("PRAGMA synchronous = EXTRA")
            _make(path, connection)
        except BaseException:
            connection.close()
            raise
    store = DecisionStore(path, connection)
    store.refresh()
    return store


def read_rows(path: Path) -> dict[str, State]:
    """What holds for each image, of a file that is only read; one that is being written to will do.

    Raises
    ------
    DataError : no file of decisions
    """
    with _explained(path):
        # Not as read-only: what a killed process left half written is taken back before anybody can read.
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=_WAIT_S)
        with contextlib.closing(connection):
            connection.text_factory = _text
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version != SCHEMA:
                raise DataError(_OTHER.format(path=path))
            store = DecisionStore(path, connection)
            store.refresh()
            return store.states


def _make(path: Path, connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
    if not version and not tables:
        for statement in _TABLE.split(";\n"):
            # A trigger has a semicolon of its own, which stands before END.
            if statement.strip():
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA}")
    connection.execute("COMMIT")
    if (version or SCHEMA) != SCHEMA or (tables and not version):
        raise DataError(_OTHER.format(path=path))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode("utf-8", "surrogateescape")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn SQLite's refusals into ours."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
            raise ResourceError(f"cannot write {path}: {error}; make room: nothing is lost") from error
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise BusyError(f"{path}: another process holds this file; end it and try again") from error
        if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
            raise DataError(f"{path}: expected decisions as assay writes them, got: {error}") from error
        if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM")):
            raise UsageError(f"cannot write {path}: {error}; check its rights") from error
        raise
