"""Facts of report.json as the page writes them."""

from collections.abc import Mapping
from typing import Any

from assay.text import percent, percent_range


def sure(confidence: float) -> str:
    """``93.8 %``; files of a run have four decimals, so nothing above 99.9 % is told apart."""
    return "> 99.9 %" if confidence > 0.999 else percent(confidence)


def range_of(found: Mapping[str, Any]) -> str:
    """``59.3 to 61.5``, in percent."""
    return percent_range(found["low"], found["high"])
