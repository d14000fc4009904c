"""Values that flags hold, from the words that stand for them."""

from assay.errors import UsageError

UNITS = {"s": 1, "m": 60, "h": 3600}


def class_pairs(texts: list[str] | None) -> dict[str, str]:
    """``FROM=TO`` as one to the other.

    Raises
    ------
    UsageError : no ``=``
    """
    for text in texts or ():
        if "=" not in text:
            raise UsageError(f"--class-map: expected FROM=TO, got {text!r}")
    return dict(text.split("=", 1) for text in texts or ())


def seconds_of(words: str) -> float:
    """``20m`` as 1200.0; a bare number is seconds.

    Raises
    ------
    UsageError : no time
    """
    number, unit = (words[:-1], words[-1]) if words[-1:] in UNITS else (words, "s")
    try:
        seconds = float(number) * UNITS[unit]
    except ValueError:
        raise UsageError(f"--time-limit: expected a time such as 90s, 20m or 1.5h, got {words!r}") from None
    if not 0 < seconds < float("inf"):
        raise UsageError(f"--time-limit: expected more than nothing, got {words!r}")
    return seconds
