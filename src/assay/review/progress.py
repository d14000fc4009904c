"""Progress: how far the review is, what it found, and what further looks would probably bring."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice, takewhile

import numpy as np

from assay.data.decision_store import State
from assay.evaluate import wilson
from assay.review.queue import Order
from assay.review.run import ReviewRun
from assay.types import UNKNOWN

AHEAD = 50
"""Looks for which the gain is estimated."""

FEWEST = 10
"""Images of the random part from which its share is said: of one or two it says nothing."""


@dataclass(frozen=True)
class Progress:
    """The review so far."""

    decided: int
    skipped: int
    total: int
    """Images that may be decided."""
    noisy_wrong: int
    """Decided images whose given label was another one."""
    proposed_wrong: int
    """Decided images whose proposed label was another one: right labels gained."""
    ahead: int
    """The next looks that are left, 50 at most."""
    expected_gain: float
    """Right labels that these would probably add, by the run's own confidence."""
    sample_size: int
    """Decided images of the random part that was looked at without a gap."""
    sample_right: int
    """Of these, those whose proposed label is the decided one."""

    def words(self) -> str:
        """For a person, in one or two sentences."""
        gain = f" The next {self.ahead} would probably correct {self.expected_gain:.0f} proposed labels."
        return f"{self.found()}.{gain if self.ahead else ''}"

    def found(self) -> str:
        """What was looked at, and how many labels were wrong."""
        seen = f"{self.decided:,} of {self.total:,} decided"
        skipped = f", {self.skipped:,} skipped" if self.skipped else ""
        wrong = f"; {self.noisy_wrong:,} given labels were wrong, {self.proposed_wrong:,} proposed ones"
        return f"{seen}{skipped}{wrong if self.decided else ''}"

    def estimate(self) -> str:
        """How right all proposed labels are, from the random part; empty where too little of it was seen."""
        if self.sample_size < FEWEST:
            return ""
        share = wilson(self.sample_right, self.sample_size)
        return (
            f"In the random part {self.sample_right:,} of {self.sample_size:,} proposed labels were right: "
            f"{100 * share.low:.0f} to {100 * share.high:.0f} % of all."
        )


def progress_of(run: ReviewRun, order: Order, states: Mapping[int, State]) -> Progress:
    """The review so far.

    Parameters
    ----------
    states : of each row that was looked at
    """
    index = {label: i for i, label in enumerate(run.labels)}
    decided = {row: index.get(str(s.label), UNKNOWN) for row, s in states.items() if s.is_decided}
    done = {row for row, state in states.items() if state.history}
    rows, labels = np.array([*decided], dtype=np.int64), np.array([*decided.values()], dtype=np.int64)
    ahead = list(islice((row for row in map(int, order.rows) if row not in done), AHEAD))
    # Up to the first that nobody looked at; who was skipped has no label to count.
    sample = [row for row in takewhile(done.__contains__, map(int, order.sample)) if row in decided]
    return Progress(
        decided=len(decided),
        skipped=len(done) - len(decided),
        total=int(run.is_open.sum()),
        noisy_wrong=int(np.sum((run.noisy[rows] != labels) & (run.noisy[rows] != UNKNOWN))),
        proposed_wrong=int(np.sum(run.proposed[rows] != labels)),
        ahead=len(ahead),
        expected_gain=float(np.sum(1 - run.confidence[ahead])),
        sample_size=len(sample),
        sample_right=sum(int(run.proposed[row]) == decided[row] for row in sample),
    )
