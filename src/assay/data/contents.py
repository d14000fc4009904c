"""Images with the same bytes under several names: labels that contradict, and leaks into a holdout."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from assay.data.tables import shown
from assay.errors import LabelError
from assay.types import UNKNOWN, Labels, same_length

_SHOWN_CONFLICTS = 3


def check_conflicting_trusted(
    hashes: Sequence[str], trusted: Labels, names: Sequence[str], classes: Sequence[str]
) -> None:
    """Refuse images that are equal byte for byte and have different trusted labels.

    Parameters
    ----------
    hashes : digest of the bytes of each image; the empty string where there are none

    Raises
    ------
    LabelError : ``conflicting_trusted``, with the first pairs of names
    """
    same_length(hashes=hashes, names=names, trusted=trusted.tolist())
    first: dict[str, int] = {}
    conflicts: list[str] = []
    for row in np.flatnonzero(trusted != UNKNOWN).tolist():
        if not hashes[row]:
            continue
        twin = first.setdefault(hashes[row], row)
        if trusted[twin] != trusted[row]:
            one, other = (f"{shown(names[i])} is {shown(classes[trusted[i]])}" for i in (twin, row))
            conflicts.append(f"{one}, {other}")
    if conflicts:
        more = len(conflicts) - _SHOWN_CONFLICTS
        raise LabelError(
            "conflicting_trusted: equal images with different trusted labels: "
            + "; ".join(conflicts[:_SHOWN_CONFLICTS])
            + (f"; and {more:,} more" if more > 0 else "")
            + ". Correct one label of each pair, or leave both empty"
        )


def leaks(
    hashes: Sequence[str], holdout_rows: Int[np.ndarray, "H"], fit_rows: Int[np.ndarray, "F"]
) -> Int[np.ndarray, "L"]:
    """The holdout rows whose exact bytes are also among the rows that are fitted on, in their order.

    Parameters
    ----------
    hashes : digest of the bytes of each of the N images; the empty string where there are none
    """
    fitted = {hashes[row] for row in fit_rows.tolist()} - {""}
    return np.array([row for row in holdout_rows.tolist() if hashes[row] in fitted], dtype=np.int64)
