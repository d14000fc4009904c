"""Decisions of a review: in SQLite, in files that other tools read, and as labels of a data set.

The database has rows that are only ever added, and an undo is a row too. A decision names the revision that
it answers, so nobody overwrites what they have not seen: a late one is refused with what holds now.
"""

import codecs
import contextlib
import sqlite3
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from assay.data.dataset import Dataset
from assay.data.label_studio import read_tasks
from assay.data.matching import ImageFinder
from assay.data.place import Place
from assay.data.tables import read_csv, shown
from assay.data.write import write_rows
from assay.errors import BusyError, DataError, LabelError, ResourceError, TableError, UsageError
from assay.types import UNKNOWN

FILE = "decisions.sqlite"
"""Its name in the folder of a run."""

SCHEMA = 1
"""In ``user_version`` of the file; raised when older files can no longer be read."""

CSV_COLUMNS = ("file", "label", "status", "noisy_label", "who", "at")

LABEL, SKIP, UNDO = "label", "skip", "undo"
"""What a row does: give an image a label, leave it without one, take the last such row back."""

NO_CLASS = ""
"""The label of an image that belongs to no class: no class has this name, as an empty label is none."""

DECIDED, NONE, SKIPPED = "decided", "no_class", "skipped"
"""Under ``status`` of a CSV file."""

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

_WAIT_S = 5.0  # how long another process may hold the file before a decision is refused

_SQLITE = b"SQLite format 3\0"


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
    """The window in which it was decided; ``import`` of a row that came from a file."""


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
    def label(self) -> str | None:
        """The label that a person gave, or ``NO_CLASS``; None where there is no row, or one that skips."""
        return self.last.after if self.last is not None else None


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
    """``NO_CLASS`` where no class is right; None leaves the image without a label."""
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

    def decide(self, requests: Sequence[DecisionRequest], *, who: str, client: str) -> list[Decision | Stale]:
        """Give images a label, or leave them without; on the disk when this returns.

        A request that answers an older revision is stale and not written; of the others all are, or none.
        """
        found: list[Decision | Stale] = []
        seen: set[str] = set()
        with self._writing():
            for request in requests:
                name, state = request.name, self.states.get(request.name, State())
                # Of an image that comes twice, the second request has not seen the first.
                if state.revision != request.revision or name in seen:
                    found.append(Stale(name, state))
                    continue
                seen.add(name)
                before = request.noisy if state.last is None else state.last.after
                kind = SKIP if request.label is None else LABEL
                row = Decision(name, state.revision + 1, kind, before, request.label, who, _now(), client)
                self._insert(row)
                found.append(row)
        self.refresh()  # not before they are on the disk
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
                history = (new.get(row.name) or self.states.get(row.name, State())).history
                history = history[:-1] if row.kind == UNDO else (*history, row)
                new[row.name] = State(history, row.revision)
                self._last_id = number
            # A new dict: another thread may be iterating over the old one.
            self.states = self.states | new if new else self.states

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self.connection.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """One at a time, over all processes, knowing all rows."""
        with self._lock, _explained(self.path):
            self.connection.execute("BEGIN IMMEDIATE")  # from here on no other process can add a row
            try:
                self.refresh()
                yield
                self.connection.execute("COMMIT")
            finally:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")

    def _insert(self, row: Decision) -> None:
        texts = (row.name, row.before, row.after, row.who)
        name, before, after, who = (
            None if text is None else text.encode("utf-8", "surrogateescape") for text in texts
        )
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
            # Not FULL: the removal of the journal, which is the commit, could be undone by a power cut.
            connection.execute("PRAGMA synchronous = EXTRA")
            connection.execute("BEGIN IMMEDIATE")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            (tables,) = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
            if not version and not tables:
                for statement in (*_TABLE, f"PRAGMA user_version = {SCHEMA}"):
                    connection.execute(statement)
            elif version != SCHEMA:
                raise DataError(_OTHER.format(path=path))
            connection.execute("COMMIT")
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


def with_decisions(dataset: Dataset, path: Path, images: Place) -> Dataset:
    """The data set with the labels that a person decided; skipped and undone decisions give none.

    Parameters
    ----------
    path : decisions.sqlite, CSV or Label Studio's JSON
    images : the place of the images, from which its names may begin, as those of a label file

    Raises
    ------
    DataError : not one decision is of an image of this data set; else as ``read_decisions``
    LabelError : a label that is no class
    """
    labels = {row.name: row.after for row in read_decisions(path) if row.after is not None}
    row_of = {name: row for row, name in enumerate(dataset.names)}
    finder = ImageFinder(dataset.names, images, path)
    rows = {name: row_of.get(name, finder.find(name)[0]) for name in labels}
    here = {row: label for name, label in labels.items() if (row := rows[name]) is not None}
    if labels and not here:
        raise DataError(
            f"{path.name}: none of its {len(labels):,} decisions is of an image of this data set, the first "
            f"is of {shown(next(iter(labels)))}; give the decisions of a review of these images"
        )
    index = {label: i for i, label in enumerate(dataset.classes)} | {NO_CLASS: UNKNOWN}
    for row, label in here.items():
        if label not in index:
            raise LabelError(
                f"{path.name}: {shown(dataset.names[row])} was decided to be {shown(label)}, which is no "
                f"class of this data set ({', '.join(map(shown, dataset.classes[:10]))}); correct the label "
                "or leave the row out"
            )
    # A trusted label stays: which images are in the holdout must not depend on what was reviewed.
    decided = {row: index[here[row]] for row in sorted(here) if dataset.trusted[row] == UNKNOWN}
    n_without = sum(label == UNKNOWN for label in decided.values())
    counts = {
        "decisions used as trusted labels for training, in no figure": len(decided) - n_without,
        "images decided to belong to no class, not trained on": n_without,
        "decisions of images with a trusted label, which stays": len(here) - len(decided),
        "decisions of images that are not here": len(labels) - len(here),
    }
    notes = [f"{path.name}: {words}: {count:,}" for words, count in counts.items() if count]
    return replace(dataset, decided=decided, notes=(*dataset.notes, *notes))


def read_decisions(path: Path) -> list[Decision]:
    """What holds for each image, by the file's content: a database, CSV or Label Studio's JSON.

    Skipped images have no label; decisions that were taken back are left out.

    Raises
    ------
    TableError : a file of another kind, or damaged
    DataError : a database that is not one of decisions
    """
    try:
        with path.open("rb") as file:
            head = file.read(len(_SQLITE))
    except OSError as error:
        raise TableError(f"cannot read {path}: {error.strerror}") from None
    if head == _SQLITE:
        return standing(read_states(path))
    start = head.removeprefix(codecs.BOM_UTF8).lstrip()[:1]
    seen: dict[str, Decision] = {}
    tasks = start in (b"[", b"{")
    for row in (_imported(*one) for one in read_tasks(path)) if tasks else _from_csv(path):
        other = seen.setdefault(row.name, row)  # a row that repeats another is none
        if other.after != row.after:
            raise TableError(
                f"{path.name}: {shown(row.name)} is both {shown(other.after or '')} and "
                f"{shown(row.after or '')}; keep one of the two rows"
            )
    return list(seen.values())


def standing(states: Mapping[str, State]) -> list[Decision]:
    """The row that holds for each image that has one, in the order of their first rows."""
    # From the label that came with the image, whatever was decided in between.
    return [replace(one.history[-1], before=one.history[0].before) for one in states.values() if one.history]


def write_csv(target: Path, states: Mapping[str, State], *, excel_safe: bool = False) -> None:
    """One row for each image that was decided or skipped, with the ``file`` and ``label`` of a label file."""
    rows = [(row.name, row.after, _status(row), row.before, row.who, row.at) for row in standing(states)]
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(CSV_COLUMNS)
    write_rows(target, CSV_COLUMNS, columns, excel_safe=excel_safe)


def _status(row: Decision) -> str:
    return SKIPPED if row.kind == SKIP else NONE if row.after == NO_CLASS else DECIDED


def _from_csv(path: Path) -> Iterator[Decision]:
    table = read_csv(path)
    columns = table.columns or ()
    if "file" not in columns or "label" not in columns:
        raise TableError(
            f"{path.name}: expected decisions with the columns file and label, got "
            f"{', '.join(map(shown, columns)) or 'no header'}"
        )
    for place, cells in enumerate(table.rows):
        cell = dict(zip(columns, cells, strict=True))
        if not cell["file"]:
            raise TableError(f"{table.where(place)}: expected the name of an image, got an empty cell")
        noisy, who, at = (cell.get(name, "") for name in ("noisy_label", "who", "at"))
        label = cell["label"] or (NO_CLASS if cell.get("status") == NONE else None)
        yield _imported(cell["file"], label, noisy, who, at)


def _imported(name: str, label: str | None, noisy: str, who: str, at: str) -> Decision:
    kind = SKIP if label is None else LABEL
    return Decision(name, 1, kind, noisy or None, label, who, at, client="import")
