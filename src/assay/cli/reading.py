"""Flags about labels, as ReadOptions."""

from collections.abc import Mapping, Sequence
from typing import Any

from assay._errors import UsageError


def read_options(*, class_map: Sequence[str] | None, **chosen: Any) -> Any:
    """ReadOptions from flags; imported late, so that help stays instant."""
    from assay.data.dataset import ReadOptions

    return ReadOptions(class_map=_pairs(class_map or ()), **chosen)


def _pairs(texts: Sequence[str]) -> Mapping[str, str]:
    for text in texts:
        if "=" not in text:
            raise UsageError(f"--class-map: expected FROM=TO, got {text!r}")
    return dict(text.split("=", 1) for text in texts)
