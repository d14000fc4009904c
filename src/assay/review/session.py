"""ReviewSession: one review in progress; what the pages show and what a person decides, free of HTTP."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile

import numpy as np
from jaxtyping import Int

from assay.data.decisions import NO_CLASS, Decision, DecisionRequest, DecisionStore, Stale, State
from assay.data.tables import shown
from assay.data.write import write_json
from assay.errors import DataError, UsageError
from assay.evaluate import wilson
from assay.review.keys import FILE as KEYS
from assay.review.keys import checked_keys, default_keys, read_keys
from assay.review.neighbours import Neighbours
from assay.review.run import Order, ReviewRun
from assay.text import counted, percent
from assay.types import UNKNOWN, Rows

GRID = 50
"""Images on one page of the grid."""

AHEAD = 50
"""Images for which the page shows the expected corrections."""

MIN_SAMPLE = 10
"""Reviewed images of the random sample from which a share is estimated."""


@dataclass(frozen=True)
class Card:
    """What the page shows of one image."""

    item: int
    """Its number, from 1: its row in labels.csv."""
    name: str
    noisy: str
    """As all names here: for people."""
    proposed: str
    noisy_index: int
    """Class index; UNKNOWN where there is none."""
    proposed_index: int
    confidence: float
    state: State
    decided: str
    """The title that a person decided, ``belongs to no class``, ``skipped``, or empty."""
    locked: str
    """Why it cannot be decided; empty if it can."""
    reasons: tuple[str, ...] = ()
    neighbours: tuple[tuple[int, str], ...] = ()
    """Item and trusted label of the most similar."""
    next: int | None = None
    """The next item that is not reviewed."""
    previous: int | None = None


@dataclass(frozen=True)
class Progress:
    """The review so far."""

    decided: int
    skipped: int
    total: int
    """Images that may be decided."""
    noisy_wrong: int
    """Decided images whose noisy label differs from the decision."""
    proposed_wrong: int
    """Decided images whose proposed label differs from the decision: labels corrected by the review."""
    ahead: int
    """The next images that are not reviewed, 50 at most."""
    expected_corrections: float
    """Proposed labels among these that the decisions will change, by the run's confidence."""
    sample_size: int
    """Decided images of the random sample before the first that is not reviewed."""
    sample_right: int
    """Those whose proposed label is the decided one."""

    def counts(self) -> str:
        """What was reviewed, and how many labels were wrong."""
        skipped = f", {self.skipped:,} skipped" if self.skipped else ""
        noisy = counted(self.noisy_wrong, "noisy label")
        wrong = f"; wrong: {noisy}, {counted(self.proposed_wrong, 'proposed label')}" if self.decided else ""
        return f"{self.decided:,} of {self.total:,} decided{skipped}{wrong}"

    def summary(self) -> str:
        """``counts``, and the corrections to expect of the next images."""
        expected = (
            f" About {self.expected_corrections:.0f} of the next {self.ahead} proposed labels are wrong."
        )
        return f"{self.counts()}.{expected if self.ahead else ''}"

    def estimate(self) -> str:
        """The share of correct proposed labels with its interval; empty if the random sample is too small."""
        if self.sample_size < MIN_SAMPLE:
            return ""
        share = wilson(self.sample_right, self.sample_size)
        return (
            f"Random sample: {self.sample_right:,} of {self.sample_size:,} proposed labels are correct. "
            f"Of all proposed labels: {100 * share.low:.0f} to {100 * share.high:.0f} % (95 % interval)."
        )


@dataclass
class ReviewSession:
    """A run, the decisions on it, and the order of its images.

    Raises
    ------
    DataError : decisions of another run with other classes
    """

    run: ReviewRun
    store: DecisionStore
    order: Order
    neighbours: Neighbours
    who: str
    excel_safe: bool = False
    """In its CSV exports."""
    keys: dict[str, str] = field(init=False)
    _row_of: dict[str, int] = field(init=False, repr=False)
    _place: Int[np.ndarray, "N"] = field(init=False, repr=False)
    """Of each row in the order; -1 for those that are not in it."""
    _known_stale: dict[str, frozenset[str]] = field(init=False, repr=False, default_factory=dict)
    """Client -> images it decided whose later change by somebody else it has been shown."""

    def __post_init__(self) -> None:
        self._row_of = {name: row for row, name in enumerate(self.run.names)}
        for name, state in self.store.states.items():
            if state.label and name in self._row_of and state.label not in self.run.labels:
                raise DataError(
                    f"{self.store.path}: {shown(name)} was decided to be {shown(state.label)}, which is no "
                    "class of this run; these are the decisions of another run: move the file away"
                )
        self._place = np.full(len(self.run), -1, dtype=np.int64)
        self._place[self.order.rows] = np.arange(len(self.order.rows))
        self.keys = read_keys(self.store.path.with_name(KEYS), self.run.titles)

    def save_keys(self, keys: Mapping[str, str]) -> None:
        """Use these keys from now on, in every window; none: the default ones."""
        checked = checked_keys(keys or default_keys(self.run.titles), len(self.run.labels))
        write_json(self.store.path.with_name(KEYS), checked)
        self.keys = checked

    def state(self, row: int) -> State:
        """What was decided on an image."""
        return self.store.states.get(self.run.names[row], State())

    def first(self) -> int:
        """The first item that is not reviewed, or the first of all."""
        waiting = self._waiting(0)
        rows = waiting if len(waiting) else self.order.rows
        return int(rows[0]) + 1 if len(rows) else 1

    def next_after(self, row: int) -> int | None:
        """The next item after a row that is not reviewed; after the last come those passed over."""
        waiting = self._waiting(int(self._place[row]) + 1)
        others = waiting[waiting != row]
        return int(others[0]) + 1 if len(others) else None

    def find(self, text: str) -> int | None:
        """The item with this number, or with this name, or the first whose name contains the text."""
        # int() reads digits of any script, and of any number.
        if text.isascii() and text.isdigit() and len(text) <= 12 and 1 <= int(text) <= len(self.run):
            return int(text)
        if (exact := self._row_of.get(text)) is not None:
            return exact + 1
        return next((row + 1 for row, name in enumerate(self.run.names) if text and text in name), None)

    def card(self, row: int) -> Card:
        """What the page shows of one image, with its neighbours and the reasons for the proposed label."""
        near, place = self.neighbours.nearest(row), int(self._place[row])
        return replace(
            self._card(row),
            reasons=tuple(reasons(self.run, row, near)),
            neighbours=tuple((other + 1, self.run.title(int(self.run.trusted[other]))) for other in near),
            next=self.next_after(row),
            previous=int(self.order.rows[place - 1]) + 1 if place > 0 else None,
        )

    def grid(self, label: int) -> tuple[list[Card], list[int]]:
        """Up to fifty images of one proposed class that are not reviewed, and their number in each class."""
        waiting = self._waiting(0)
        waiting = waiting[self.run.proposed[waiting] != UNKNOWN]
        proposed = self.run.proposed[waiting]
        counts: list[int] = np.bincount(proposed, minlength=len(self.run.labels)).tolist()
        return [self._card(row) for row in waiting[proposed == label][:GRID].tolist()], counts

    def decide(
        self, choices: Sequence[tuple[int, int | None, int]], *, client: str
    ) -> list[Decision | Stale]:
        """Give images a class, or skip them; on disk when this returns.

        Parameters
        ----------
        choices : row, class index (None skips; UNKNOWN: no class is right), and the revision that was seen

        Raises
        ------
        UsageError : an image that cannot be decided, or no such class; nothing is written
        """
        run, requests = self.run, []
        for row, label, revision in choices:
            name = run.names[row]
            if not run.is_open[row]:
                raise UsageError(f"{shown(name)}: {locked(run, row)}")
            if label is not None and not UNKNOWN <= label < len(run.labels):
                known = f"a class from 0 to {len(run.labels) - 1}"
                raise UsageError(f"{shown(name)}: expected {known}, got {label}")
            chosen = None if label is None else NO_CLASS if label == UNKNOWN else run.labels[label]
            requests.append(DecisionRequest(name, chosen, run.label(int(run.noisy[row])), revision))
        # Whoever changes these from now on is reported to the client again.
        known_stale = self._known_stale.get(client, frozenset())
        self._known_stale[client] = known_stale - {request.name for request in requests}
        return self.store.decide(requests, who=self.who, client=client)

    def undo(self, client: str, count: int = 1) -> list[tuple[int, Decision | Stale]]:
        """Undo the latest ``count`` decisions of a client, fewer if no more are left.

        An image that somebody else has decided since is reported once as stale, and counts as one of them.

        Returns
        -------
        Each item, 0 if the run no longer has the image, with its outcome.
        """
        found: list[tuple[int, Decision | Stale]] = []
        for _ in range(count):
            known_stale = self._known_stale.get(client, frozenset())
            outcome = self.store.undo(who=self.who, client=client, known_stale=known_stale)
            if outcome is None:
                break
            found.append((self._row_of.get(outcome.name, -1) + 1, outcome))
            if isinstance(outcome, Stale):
                self._known_stale[client] = known_stale | {outcome.name}
        return found

    def progress(self) -> Progress:
        """Counts of the review, and what to expect of the next images."""
        run, index = self.run, {label: i for i, label in enumerate(self.run.labels)}
        # A later run has trained on these decisions; then they are trusted labels, and no longer open.
        states = {row: state for row, state in self._states().items() if run.is_open[row]}
        decided = {row: index.get(s.label, UNKNOWN) for row, s in states.items() if s.label is not None}
        done = {row for row, state in states.items() if state.history}
        rows, labels = np.array([*decided], dtype=np.int64), np.array([*decided.values()], dtype=np.int64)
        ahead = self._waiting(0)[:AHEAD]
        # A gap would make it a selection; skipped images have no label to compare.
        sample = [row for row in takewhile(done.__contains__, map(int, self.order.sample)) if row in decided]
        return Progress(
            decided=len(decided),
            skipped=len(done) - len(decided),
            total=int(run.is_open.sum()),
            noisy_wrong=int(np.sum((run.noisy[rows] != labels) & (run.noisy[rows] != UNKNOWN))),
            proposed_wrong=int(np.sum(run.proposed[rows] != labels)),
            ahead=len(ahead),
            expected_corrections=float(np.sum(1 - run.confidence[ahead])),
            sample_size=len(sample),
            sample_right=sum(int(run.proposed[row]) == decided[row] for row in sample),
        )

    def _waiting(self, place: int) -> Rows:
        # From a place in the order on, then from its beginning: images passed over come again.
        reviewed = np.zeros(len(self.run), dtype=bool)
        reviewed[[row for row, state in self._states().items() if state.history]] = True
        rows = np.roll(self.order.rows, -place)
        waiting: Rows = rows[~reviewed[rows]]
        return waiting

    def _states(self) -> dict[int, State]:
        # Images of an earlier run in this folder keep their decisions in the file; they are not shown.
        states = self.store.states.items()
        return {self._row_of[name]: state for name, state in states if name in self._row_of}

    def _card(self, row: int) -> Card:
        # Without reasons and neighbours, which take a search: a grid has fifty cards.
        run, state = self.run, self.state(row)
        noisy, proposed = int(run.noisy[row]), int(run.proposed[row])
        decided = "skipped" if state.history else ""
        if state.label is not None:
            # Decisions of other processes may be of a class that this run lacks.
            known = state.label in run.labels
            decided = run.title(run.labels.index(state.label)) if known else state.label
            decided = decided or "belongs to no class"
        return Card(
            item=row + 1,
            name=run.names[row],
            noisy=run.title(noisy),
            proposed=run.title(proposed),
            noisy_index=noisy,
            proposed_index=proposed,
            confidence=float(run.confidence[row]),
            state=state,
            decided=decided,
            locked=locked(run, row),
        )


def locked(run: ReviewRun, row: int) -> str:
    """Why an image cannot be decided; empty if it can."""
    if run.is_open[row]:
        return ""
    if run.trusted[row] != UNKNOWN:
        return "This image already has a trusted label."
    if run.held_out[row]:
        return "This image is in the holdout; its trusted label is not shown here."
    if row in run.decided:
        return "A person decided that this image belongs to no class."
    return f"This image could not be used: {run.reasons[row] or run.actions[row]}."


def reasons(run: ReviewRun, row: int, neighbours: list[int]) -> list[str]:
    """What speaks for and against the noisy and the proposed label."""
    noisy, proposed = int(run.noisy[row]), int(run.proposed[row])
    found = []
    if run.actions[row] == "outlier" and run.outlier_score is not None:
        found.append(f"This image may belong to no class: its outlier score is {run.outlier_score[row]:.2f}.")
    if proposed == UNKNOWN:
        return found
    sure = _probability(run.confidence[row])
    if noisy == UNKNOWN:
        found += [f"There is no noisy label. {run.title(proposed)} is correct with probability {sure}."]
    elif noisy == proposed:
        most = "is the most probable class, with probability only" if run.confidence[row] < 0.5 else ""
        found += [f"The noisy label {run.title(noisy)} {most or 'is correct with probability'} {sure}."]
    else:
        found += [
            f"The noisy label {run.title(noisy)} is correct with probability "
            f"{_probability(run.label_quality[row])}, the proposed label {run.title(proposed)} with {sure}."
        ]
        if run.transition is not None:
            share = _probability(run.transition[proposed, noisy])
            found.append(f"Of the images of {run.title(proposed)}, {share} are labelled {run.title(noisy)}.")
    if run.annotated and (n := int(run.annotated["annotations"][row])):
        share = percent(float(run.annotated["agreement"][row]))
        found.append(f"{counted(n, 'annotator label')}: {share} are {run.title(proposed)}.")
    if neighbours:
        counts = Counter(run.trusted[neighbours].tolist()).most_common()
        labels = ", ".join(f"{count} × {run.title(label)}" for label, count in counts)
        found.append(f"Labels of the {len(neighbours)} most similar trusted images: {labels}.")
    return found


def _probability(share: float) -> str:
    # Files of a run have four decimals, so 0 and 1 are only nearly 0 and 1.
    if share < 0.001:
        return "less than 0.1 %"
    return "more than 99.9 %" if share > 0.999 else percent(share)
