"""Trusted labels as people write them, to class indices."""

from collections.abc import Collection
from typing import Any

import numpy as np

from assay.data.labels import closest
from assay.errors import LabelError
from assay.types import UNKNOWN, Labels


def encode_trusted(trusted: Any, classes: np.ndarray, n: int) -> Labels:
    """Trusted labels (N,) as indices into ``classes``; UNKNOWN where masked or missing.

    Parameters
    ----------
    trusted : masked array, or any sequence with None, NaN or pandas' NA where the label is unknown; so are -1
        and the empty string, unless there is a class of that name
    classes : (K,) the noisy labels, sorted
    n : N

    Raises
    ------
    LabelError : another length, a label that is not among ``classes``, or no known label at all
    """
    masked = np.ma.isMaskedArray(trusted)
    # As objects: NumPy would turn a None or NaN among strings into a word.
    values = np.asarray(np.ma.getdata(trusted) if masked else trusted, dtype=object)
    if values.shape != (n,):
        raise LabelError(
            f"trusted: expected {n} labels, one for each row, unknown ones masked; got shape {values.shape}"
        )
    index = {label: i for i, label in enumerate(classes.tolist())}
    blanks = {-1, ""} - index.keys()
    encoded = np.full(n, UNKNOWN)
    rows = np.flatnonzero(~np.ma.getmaskarray(trusted)) if masked else np.arange(n)
    for row in rows.tolist():
        label = values[row]
        if _is_unknown(label, blanks):
            continue
        if label not in index:
            near = closest(label, map(str, index)) if isinstance(label, str) else None
            hint = f"did you mean {near!r}?" if near else f"they are {', '.join(map(repr, [*index][:10]))}"
            raise LabelError(f"trusted: row {row} is {label!r}, which no row has as its noisy label; {hint}")
        encoded[row] = index[label]
    if (encoded == UNKNOWN).all():
        raise LabelError("trusted: expected at least one known label, got none; leave trusted out instead")
    return encoded


def _is_unknown(label: Any, blanks: Collection[Any]) -> bool:
    if label is None or label in blanks:
        return True
    try:
        return bool(label != label)  # noqa: PLR0124  # NaN and NaT alone differ from themselves
    except TypeError:  # pandas' NA is neither equal nor different
        return True
