"""How wrong the given labels are, as the report tells it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from assay.noise.intervals import share_bounds
from assay.text import p_equals, percent

Facts = dict[str, Any]
"""A part of report.json."""

MOST_CELLS = 10
"""The largest mistakes that are listed."""


def noise_facts(noise: Mapping[str, Any], titles: Sequence[str]) -> Facts:
    """Rate, transition with intervals, test of structure; whether the trusted images look like the rest.

    Parameters
    ----------
    noise : noise.json
    titles : K names for people
    """
    return {
        **{name: noise[name] for name in ("transition", "low", "high")},
        "rate": noise["rate"],
        "pairs": noise["n_pairs"],
        "form": noise["form"],
        "summary": noise["summary"],
        "test": {**noise["symmetry"], "words": _test_words(noise["symmetry"])},
        "largest": _largest(noise, titles) if noise["form"] == "full" else [],
        "wrong_share_by_class": noise["wrong_share_by_class"],
        "representative": {**noise["representative"], "words": _fair_words(noise["representative"])},
    }


def largest_cells(counts: np.ndarray) -> list[tuple[int, int]]:
    """Row and column of the greatest counts off the diagonal, the greatest first."""
    off = counts - np.diag(np.diag(counts))
    order = np.argsort(-off, axis=None, kind="stable")[:MOST_CELLS].tolist()
    return [divmod(place, len(counts)) for place in order if off.flat[place] > 0]


def _largest(noise: Mapping[str, Any], titles: Sequence[str]) -> list[Facts]:
    """The most frequent mistakes, each with its probability and interval.

    They are picked as the greatest: their intervals hold for all pairs of classes at once (Bonferroni).
    """
    counts, level = np.array(noise["counts"]), noise["rate"]["level"]
    pairs = len(counts) * (len(counts) - 1)
    low, high = share_bounds(counts, counts.sum(axis=1, keepdims=True), 1 - (1 - level) / pairs)
    return [
        {
            "true": titles[row],
            "noisy": titles[column],
            "count": int(counts[row, column]),
            "probability": {"level": level}
            | _around(noise["transition"][row][column], float(low[row, column]), float(high[row, column])),
        }
        for row, column in largest_cells(counts)
    ]


def _around(estimate: float, low: float, high: float) -> Facts:
    """An interval of a share as counted, stretched to hold the estimate, which leans on other classes."""
    return {"estimate": estimate, "low": min(low, estimate), "high": max(high, estimate)}


def _test_words(test: Mapping[str, Any]) -> str:
    rate, spread = test["same_rate"], test["same_spread"]
    halves = (
        f"One noise rate for all classes: {p_equals(rate['p_value'])}; "
        f"wrong labels spread evenly over the other classes: {p_equals(spread['p_value'])}."
    )
    if spread["degrees"] == 0:  # with two classes there is but one way to be wrong
        halves = ""
    verdict = (
        "The noise has a structure: it is not the same for all classes"
        if test["rejected"]
        else "Nothing speaks against noise that is the same for all classes and evenly spread"
    )
    return f"{verdict} ({p_equals(test['p_value'])}). {halves}".strip()


def _fair_words(found: Mapping[str, Any]) -> str:
    if found["features_auc"] is None and found["labels"] is None:
        return "There were too few images to tell whether the trusted ones look like the rest."
    if not found["looks_alike"]:
        return " ".join(found["warnings"])
    auc = found["features_auc"]
    words = "The trusted images look like the rest, as far as a test can tell."
    if auc is None:
        return words
    return f"{words} A classifier tells them apart in {percent(auc['estimate'])} of pairs; 50 % is chance."
