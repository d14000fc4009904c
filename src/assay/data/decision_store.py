"""Decisions of a review in SQLite: rows that are only ever added; one that was acknowledged is on the disk.

Each row says what an image's label was and what it became; an undo is a row too. A decision names the
revision that it answers, so nobody overwrites what they have not seen: a late one is refused with what holds
now.
"""

import contextlib
import sqlite3
import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from assay.errors import BusyError, DataError, ResourceError, UsageError

FILE = "decisions.sqlite"
"""Its name in the folder of a run."""

SCHEMA = 1
"""In ``user_version`` of the file; raised when older files can no longer be read."""

LABEL, SKIP, UNDO = "label", "skip", "undo"
"""What a row does: give an image a label, leave it without one, take the last such row back."""

_TABLE = (
    """CREATE TABLE decisions (
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
)""",
    """CREATE TRIGGER decisions_never_change BEFORE UPDATE ON decisions
BEGIN SELECT RAISE(ABORT, 'decisions are never changed'); END""",
    """CREATE TRIGGER decisions_never_go BEFORE DELETE ON decisions
BEGIN SELECT RAISE(ABORT, 'decisions are never deleted'); END""",
)

# Names are bytes of a file system and need not be UTF-8, which SQLite's own conversion would refuse.
_INSERT = """
INSERT INTO decisions (name, revision, kind, before, after, who, at, client)
VALUES (CAST(? AS TEXT), ?, ?, CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), ?, ?)
"""
_SELECT = "SELECT id, name, revision, kind, before, after, who, at, client FROM decisions"

_OTHER = "{path}: expected decisions of this version of assay, got another database; name another file"

_WAIT_S = 5.0
"""How long another process may hold the file before a decision is refused."""


@dataclass(frozen=True)
class Decision:
    """One row."""

    name: str
    """The image, as the column ``file`` of labels.csv names it."""
    revision: int
    """1 for the first row of an image, then 2…"""
    kind: str
    """``label``, ``skip`` or ``undo``."""
    before: str | None
    """The label until now; None where there was none."""
    after: str | None
    """The label from now on; of an undo, what there was before the undone row."""
    who: str
    at: str
    """UTC, ISO 8601, to the microsecond."""
    client: str
    """The window in which it was decided."""


@dataclass(frozen=True)
class State:
    """What holds for one image."""

    history: tuple[Decision, ...] = ()
    """Rows that were not taken back, oldest first."""
    revision: int = 0
    """Of the newest row; 0 where there is none. A decision that answers another one is stale."""

    @property
    def last(self) -> Decision | None:
        """The row that holds."""
        return self.history[-1] if self.history else None

    @property
    def is_decided(self) -> bool:
        """Whether a person gave a label."""
        return self.last is not None and self.last.kind == LABEL

    @property
    def is_skipped(self) -> bool:
        """Whether a person looked and gave none."""
        return self.last is not None and self.last.kind == SKIP

    @property
    def label(self) -> str | None:
        """The label that a person gave."""
        return self.last.after if self.last is not None and self.is_decided else None

    def then(self, row: Decision) -> "State":
        """After one more row."""
        history = self.history[:-1] if row.kind == UNDO else (*self.history, row)
        return State(history, row.revision)


@dataclass(frozen=True)
class Stale:
    """Nothing was written: somebody else decided meanwhile, or there is nothing to take back."""

    name: str
    state: State
    """What holds now."""


@dataclass(frozen=True)
class DecisionRequest:
    """What a person wants to decide."""

    name: str
    label: str | None
    """None leaves the image without a label."""
    noisy: str | None
    """The label that came with the image."""
    revision: int
    """The one that the person saw."""


@dataclass
class DecisionStore:
    """The open file; its methods may be called from several threads, and several processes may open it."""

    path: Path
    connection: sqlite3.Connection = field(repr=False)
    states: dict[str, State] = field(default_factory=dict, repr=False)
    """Of each image that has a row, as far as the file was read; ``refresh`` reads on, into a new dict."""
    _last_id: int = 0
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def decide(
        self, name: str, label: str | None, *, noisy: str | None, revision: int, who: str, client: str
    ) -> Decision | Stale:
        """``decide_all`` for one image."""
        (found,) = self.decide_all([DecisionRequest(name, label, noisy, revision)], who=who, client=client)
        return found

    def decide_all(
        self, requests: Sequence[DecisionRequest], *, who: str, client: str
    ) -> list[Decision | Stale]:
        """Give images a label, or leave them without; on the disk when this returns.

        A request that answers an older revision is stale and not written; of the others all are, or none.
        """
        found: list[Decision | Stale] = []
        seen: set[str] = set()
        with self._writing():
            for request in requests:
                state = self.states.get(request.name, State())
                # Of an image that comes twice, the second request has not seen the first.
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
        # Not before they are on the disk.
        self.refresh()
        return found

    def undo(self, *, who: str, client: str, known_stale: Collection[str] = ()) -> Decision | Stale | None:
        """Take back the newest row that this client wrote; None if it has none left.

        It is stale if the image was decided elsewhere since.

        Parameters
        ----------
        known_stale : images of which the client knows that; their stale rows are passed over
        """
        with self._writing():
            found = self.connection.execute(
                f"{_SELECT} WHERE client = ? AND kind != 'undo' ORDER BY id DESC", [client]
            )
            for newest in (Decision(*values) for _, *values in found):
                state = self.states[newest.name]
                # Of rows that were taken back, or replaced as the client knows, an older one is meant.
                if state.last == newest or (newest in state.history and newest.name not in known_stale):
                    break
            else:
                return None
            if state.last != newest:
                return Stale(newest.name, state)
            row = Decision(
                newest.name, state.revision + 1, UNDO, newest.after, newest.before, who, _now(), client
            )
            self._insert(row)
        self.refresh()
        return row

    def add(self, rows: Sequence[Decision]) -> int:
        """Take over rows of another file, of images for which nothing holds here; returns their number.

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
            rows = self.connection.execute(f"{_SELECT} WHERE id > ? ORDER BY id", [self._last_id])
            for number, *values in rows:
                row = Decision(*values)
                new[row.name] = new.get(row.name, self.states.get(row.name, State())).then(row)
                self._last_id = number
            # A new dict: another thread may be iterating over the old one.
            self.states = self.states | new if new else self.states

    def rows(self) -> list[Decision]:
        """Every row there is, undone ones and undos included, in the order in which they were written."""
        with self._lock, _explained(self.path):
            return [Decision(*values[1:]) for values in self.connection.execute(f"{_SELECT} ORDER BY id")]

    def close(self) -> None:
        """Close the file."""
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
        name, before, after, who = map(_bytes, (row.name, row.before, row.after, row.who))
        values = [name, row.revision, row.kind, before, after, who, row.at, row.client]
        self.connection.execute(_INSERT, values)


def open_decisions(path: Path) -> DecisionStore:
    """The decisions at ``path``; the file is made if there is none.

    Raises
    ------
    DataError : another kind of file, or a damaged one
    UsageError : the place cannot be written to
    BusyError : another process holds the file for too long
    ResourceError : the disk is full
    """
    with _explained(path):
        connection = sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
        try:
            connection.text_factory = _text
            # FULL is not enough for what was acknowledged to survive a power cut: the removal of the journal,
            # which is the commit, may be undone by one.
            connection.execute("PRAGMA synchronous = EXTRA")
            connection.execute("BEGIN IMMEDIATE")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            (tables,) = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
            if not version and not tables:
                for statement in (*_TABLE, f"PRAGMA user_version = {SCHEMA}"):
                    connection.execute(statement)
            connection.execute("COMMIT")
            if (version or SCHEMA) != SCHEMA or (tables and not version):
                raise DataError(_OTHER.format(path=path))
        except BaseException:
            connection.close()
            raise
    store = DecisionStore(path, connection)
    store.refresh()
    return store


def read_states(path: Path) -> dict[str, State]:
    """What holds for each image, of a file that is only read, even while a review writes to it.

    Raises
    ------
    DataError : no file of decisions
    """
    with _explained(path):
        # Not read-only: a transaction that a killed process left half written is rolled back by the reader.
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=_WAIT_S)
        with contextlib.closing(connection):
            connection.text_factory = _text
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version != SCHEMA:
                raise DataError(_OTHER.format(path=path))
            store = DecisionStore(path, connection)
            store.refresh()
            return store.states


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode("utf-8", "surrogateescape")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn errors of SQLite, which are not OSErrors, into errors of assay."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
            raise ResourceError(
                f"cannot write {path}: {error}; free disk space: no earlier decision is lost"
            ) from error
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise BusyError(f"{path}: another process holds this file; end it and try again") from error
        if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
            raise DataError(f"{path}: expected decisions as assay writes them, got: {error}") from error
        if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM")):
            raise UsageError(f"cannot write {path}: {error}; check its rights") from error
        raise
