"""Desk: one review in progress; what the pages show and what they may do, free of HTTP."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int

from assay.data.decision_store import Decision, DecisionRequest, DecisionStore, Stale, State
from assay.data.tables import shown
from assay.errors import DataError, UsageError
from assay.review.keys import read_keys
from assay.review.neighbours import Neighbour, Neighbours
from assay.review.progress import Progress, progress_of
from assay.review.queue import Order
from assay.review.run import ReviewRun
from assay.review.why import locked, reasons
from assay.types import UNKNOWN, Rows

GRID = 50
"""Images on one page of the grid."""


@dataclass(frozen=True)
class Card:
    """All that is said of one image."""

    item: int
    """Its number, from 1, which is its row in labels.csv."""
    name: str
    noisy: str
    """As all names here: for people."""
    proposed: str
    proposed_index: int
    """Class index; -1 where there is none."""
    noisy_index: int
    confidence: float
    state: State
    decided: str
    """What a person said: a title, ``skipped``, or empty."""
    locked: str
    """Why it cannot be decided; empty if it can."""
    reasons: list[str] = field(default_factory=list)
    neighbours: list[tuple[int, str]] = field(default_factory=list)
    """Number and trusted label of the most alike."""
    next: int | None = None
    """The next image that nobody looked at."""
    previous: int | None = None


@dataclass
class ReviewSession:
    """A run, the decisions on it, and their order.

    Raises
    ------
    DataError : decisions of a run with other classes, which was in the folder before
    """

    run: ReviewRun
    store: DecisionStore
    order: Order
    neighbours: Neighbours
    who: str
    keys: dict[str, str] = field(default_factory=dict)
    _row_of: dict[str, int] = field(init=False, repr=False)
    _place: Int[np.ndarray, "N"] = field(init=False, repr=False)
    """Of each row in the order; -1 for those that are not in it."""

    _told: dict[str, frozenset[str]] = field(init=False, repr=False, default_factory=dict)
    """Window -> images that it decided, of which it knows that somebody else did so since."""

    def __post_init__(self) -> None:
        self._row_of = {name: row for row, name in enumerate(self.run.names)}
        self._check_labels()
        self._place = np.full(len(self.run), -1, dtype=np.int64)
        self._place[self.order.rows] = np.arange(len(self.order.rows))
        self.keys = self.keys or read_keys(self.folder, self.run.titles)

    @property
    def folder(self) -> Path:
        """Where the decisions are kept."""
        return self.store.path.parent

    def _check_labels(self) -> None:
        """DataError if an image of the run was decided to be of a class that the run does not have."""
        for name, state in self.store.states.items():
            if state.label is not None and name in self._row_of and state.label not in self.run.labels:
                raise DataError(
                    f"{self.store.path}: {shown(name)} was decided to be {shown(state.label)}, which is no "
                    "class of this run; these are the decisions of another one: move the file away"
                )

    def row(self, item: int) -> int | None:
        """The row of an item's number; None if there is no such item."""
        return item - 1 if 1 <= item <= len(self.run) else None

    def state(self, row: int) -> State:
        """What people said of an image."""
        return self.store.states.get(self.run.names[row], State())

    def first(self) -> int:
        """The item to begin with: the first that nobody looked at, or the first of all."""
        waiting = self._waiting(0)
        rows = waiting if len(waiting) else self.order.rows
        return int(rows[0]) + 1 if len(rows) else 1

    def following(self, row: int, count: int) -> list[int]:
        """The next items after a row that nobody looked at; after the last one come earlier ones."""
        waiting = self._waiting(int(self._place[row]) + 1)
        rows: list[int] = waiting[waiting != row][:count].tolist()
        return [other + 1 for other in rows]

    def find(self, text: str) -> int | None:
        """The item with this number, or else the first with this in its name."""
        if text.isascii() and text.isdigit() and len(text) <= 12 and self.row(int(text)) is not None:
            return int(text)
        exact = self._row_of.get(text)
        if exact is not None:
            return exact + 1
        return next((row + 1 for row, name in enumerate(self.run.names) if text and text in name), None)

    def card(self, row: int) -> Card:
        """All that is said of one image."""
        near, following = self.neighbours.nearest(row), self.following(row, 1)
        return replace(
            self._facts(row),
            reasons=reasons(self.run, row, near),
            neighbours=[self._neighbour(found) for found in near],
            next=following[0] if following else None,
            previous=self._previous(row),
        )

    def grid(self, label: int) -> tuple[list[Card], int]:
        """Up to fifty images of one proposed class that nobody looked at, and how many there are in all."""
        waiting = self._waiting(0)
        rows = waiting[self.run.proposed[waiting] == label]
        return [self._facts(row) for row in rows[:GRID].tolist()], len(rows)

    def decide(self, wanted: Sequence[tuple[int, int | None, int]], *, client: str) -> list[Decision | Stale]:
        """Give images a class, or skip them; on the disk when this returns.

        Parameters
        ----------
        wanted : row, class index (None skips), and the revision that was looked at

        Raises
        ------
        UsageError : an image that cannot be decided, or a class that there is not; nothing is written
        """
        requests = [self._wish(row, label, revision) for row, label, revision in wanted]
        # What somebody makes of these from now on is news again.
        self._told[client] = self._told.get(client, frozenset()) - {request.name for request in requests}
        return self.store.decide_all(requests, who=self.who, client=client)

    def undo(self, client: str, count: int = 1) -> list[tuple[int, Decision | Stale]]:
        """Take back what a window decided last, up to ``count`` images; fewer if no more are left.

        An image that somebody else decided since counts as one of them: the window is told of it, once.

        Returns
        -------
        Each item, 0 if the run has that image no more, and what became of it.
        """
        found: list[tuple[int, Decision | Stale]] = []
        for _ in range(count):
            told = self._told.get(client, frozenset())
            outcome = self.store.undo(who=self.who, client=client, known_stale=told)
            if outcome is None:
                break
            found.append((self._row_of.get(outcome.name, -1) + 1, outcome))
            if isinstance(outcome, Stale):
                self._told[client] = told | {outcome.name}
        return found

    def progress(self) -> Progress:
        """How far it is."""
        # What the run was told, by these very decisions perhaps, is open no more.
        states = {row: state for row, state in self._states().items() if self.run.is_open[row]}
        return progress_of(self.run, self.order, states)

    def classes_waiting(self) -> list[int]:
        """For each class, how many images proposed to be of it nobody looked at."""
        proposed = self.run.proposed[self._waiting(0)]
        counts: list[int] = np.bincount(proposed, minlength=len(self.run.labels)).tolist()
        return counts

    def _waiting(self, place: int) -> Rows:
        """Rows that nobody looked at, from a place in the order on, then from its beginning."""
        seen = np.zeros(len(self.run), dtype=bool)
        seen[[row for row, state in self._states().items() if state.history]] = True
        rows = np.roll(self.order.rows, -place)
        waiting: Rows = rows[~seen[rows]]
        return waiting

    def _states(self) -> dict[int, State]:
        """Of each row of this run that was ever decided or skipped."""
        states = self.store.states.items()
        return {self._row_of[name]: state for name, state in states if name in self._row_of}

    def _wish(self, row: int, label: int | None, revision: int) -> DecisionRequest:
        name = self.run.names[row]
        if not self.run.is_open[row]:
            raise UsageError(f"{shown(name)}: {locked(self.run, row)}")
        if label is not None and not 0 <= label < len(self.run.labels):
            known = f"a class from 0 to {len(self.run.labels) - 1}"
            raise UsageError(f"{shown(name)}: expected {known}, got {label}")
        noisy = self.run.label(int(self.run.noisy[row]))
        return DecisionRequest(name, None if label is None else self.run.labels[label], noisy, revision)

    def _facts(self, row: int) -> Card:
        """Without what has to be searched for."""
        run, state = self.run, self.state(row)
        return Card(
            item=row + 1,
            name=run.names[row],
            noisy=run.title(int(run.noisy[row])),
            proposed=run.title(int(run.proposed[row])),
            proposed_index=int(run.proposed[row]),
            noisy_index=int(run.noisy[row]),
            confidence=float(run.confidence[row]),
            state=state,
            decided=self._decided(state),
            locked=locked(run, row),
        )

    def _previous(self, row: int) -> int | None:
        place = int(self._place[row])
        return int(self.order.rows[place - 1]) + 1 if place > 0 else None

    def _decided(self, state: State) -> str:
        if state.is_skipped:
            return "skipped"
        if state.label is None:
            return ""
        index = {label: i for i, label in enumerate(self.run.labels)}.get(state.label, UNKNOWN)
        return state.label if index == UNKNOWN else self.run.title(index)

    def _neighbour(self, found: Neighbour) -> tuple[int, str]:
        return found.row + 1, self.run.title(int(self.run.trusted[found.row]))
