"""Decisions: what a person said of images, as rows that are only ever added.

Each row says what an image's label was and what it became; taking a decision back is a row too. Nobody
overwrites what they have not seen: a decision names the revision that it answers, and a late one is told
what there is now.
"""

from dataclasses import dataclass

LABEL, SKIP, UNDO = "label", "skip", "undo"
"""What a row may do: give an image a label, leave it without, take the last such row back."""


@dataclass(frozen=True)
class Decision:
    """One row."""

    name: str
    """The image, as labels.csv calls it."""
    revision: int
    """1 for the first row of an image, then 2…"""
    kind: str
    """``label``, ``skip`` or ``undo``."""
    before: str | None
    """The label until now; None where there was none."""
    after: str | None
    """The label from now on: of an undone row, what there was before it."""
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
    """The one that was looked at."""
