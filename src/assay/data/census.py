"""Counting what is found while a folder or an archive is walked."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from assay.data.dataset import ADVICE, Skipped
from assay.data.paths import natural_key
from assay.data.tables import some

_HIDDEN = frozenset(
    (
        *("__MACOSX", "Thumbs.db", "desktop.ini", "$RECYCLE.BIN", "System Volume Information", "lost+found"),
        *("@eaDir", "#recycle", "#snapshot"),  # of network storage
    )
)
_SHOWN, _SHOWN_ENDINGS = 3, 10


def is_hidden(name: str) -> bool:
    """Whether a file or folder is one that systems leave behind, not one that a person put there."""
    return name.startswith(".") or name in _HIDDEN


@dataclass
class ScanReport:
    """Rows, and what was left out; filled entry by entry."""

    names: list[str] = field(default_factory=list)
    skipped: dict[str, Skipped] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    """Names of the folders at the top."""
    hidden: int = 0
    ignored: Counter[str] = field(default_factory=Counter)
    """How many files of each extension are no images."""
    links: Counter[str] = field(default_factory=Counter)
    """How many links were not followed, for each reason."""
    unlisted: list[str] = field(default_factory=list)
    """Folders that could not be listed."""

    def add(self, name: str, fault: Skipped | None = None) -> None:
        """A row for ``name``, which is skipped if it has a fault."""
        self.names.append(name)
        if fault is not None:
            self.skipped[name] = fault

    def rows(self) -> "Listed":
        """What was added, in natural order."""
        in_order = all(one <= other for one, other in pairwise(map(natural_key, self.names)))
        # Most places list their images in order, and keys take more memory than names.
        places = np.arange(len(self.names)) if in_order else np.array(self._sorted(), dtype=np.int64)
        names = tuple(self.names if in_order else (self.names[place] for place in places.tolist()))
        faults = {index: self.skipped[name] for index, name in enumerate(names) if name in self.skipped}
        return Listed(names, faults, places)

    def _sorted(self) -> list[int]:
        return sorted(range(len(self.names)), key=lambda place: natural_key(self.names[place]))

    def notes(self) -> tuple[str, ...]:
        """What the user should know, one line for each kind."""
        lines = []
        if self.hidden:
            lines.append(f"ignored {_count(self.hidden, 'hidden entry', 'hidden entries')}")
        lines += self._ignored()
        for reason, number in sorted(self.links.items()):
            lines.append(
                f"did not follow {_count(number, 'link', 'links')}: {reason}{ADVICE.get(reason, '')}"
            )
        if self.unlisted:
            where = some(self.unlisted, _SHOWN)
            lines.append(f"warning: could not list {where}: the images there are missing")
        twins = _equal_but_for_case(self.names)
        if twins:
            more = f", and {len(twins) - 1:,} more groups of such names" if len(twins) > 1 else ""
            lines.append(f"warning: names that differ only in case: {some(twins[0], _SHOWN)}{more}")
        return tuple(lines)

    def _ignored(self) -> Iterator[str]:
        """A line for each of the most frequent endings, in their order, and one for the others."""
        most = dict(self.ignored.most_common(_SHOWN_ENDINGS))
        for ending, number in sorted(most.items()):
            what = f"named *{ending}" if ending else "without an extension"
            yield f"ignored {_count(number, 'file', 'files')} {what}: no images"
        others = self.ignored.total() - sum(most.values())
        if others:
            yield f"ignored {_count(others, 'file', 'files')} of other endings: no images"


class Listed(NamedTuple):
    """Images in natural order of their names."""

    names: tuple[str, ...]
    skipped: dict[int, Skipped]
    """The fault of each index that has one."""
    order: Int[np.ndarray, "N"]
    """For each row, its position in the order of adding, from 0."""


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _equal_but_for_case(names: Sequence[str]) -> list[list[str]]:
    """By numbers of eight bytes first: lists of a million names are large."""
    hashes = np.fromiter((hash(name.casefold()) for name in names), dtype=np.int64, count=len(names))
    ordered = np.sort(hashes)
    shared = ordered[1:][ordered[1:] == ordered[:-1]]
    label_issues: list[int] = np.flatnonzero(np.isin(hashes, shared)).tolist() if len(shared) else []
    groups: dict[str, list[str]] = {}
    for name in (names[place] for place in label_issues):
        groups.setdefault(name.casefold(), []).append(name)
    return sorted(sorted(group) for group in groups.values() if len(group) > 1)
