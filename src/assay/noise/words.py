"""Numbers and lists as a person would write them."""

from collections.abc import Sequence


def percent(share: float) -> str:
    """``0.6031`` as ``60.3 %``; a share too small for one decimal keeps two digits."""
    hundred = 100 * share
    return f"{hundred:.1f} %" if hundred == 0 or hundred >= 0.1 else f"{hundred:.2g} %"


def listed(words: Sequence[str], at_most: int = 5) -> str:
    """``a, b and c``; what is over ``at_most`` is counted, not shown."""
    shown, left_out = list(words[:at_most]), len(words) - at_most
    if left_out > 0:
        shown.append(f"{left_out} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
