import re
from dataclasses import replace

import numpy as np
import pytest
from pictures import saved
from small_datasets import InMemory, noise

from assay.data.files import USUAL
from assay.evaluate import evaluate_predictions
from assay.pipeline.finished import read_finished_run
from assay.report.facts import (
    MAX_ROWS,
    MAX_SKIPPED,
    SHOWN,
    SIDE,
    choose_galleries,
    draw_pictures,
    gather,
)
from assay.report.page import (
    MAX_DRAWINGS,
    accuracy_chart,
    coverage_chart,
    draw_page,
    level,
    policy,
    reliability_chart,
)

LONG = "<&\u202e>" * 2_500


@pytest.fixture
def facts(finished):
    """Of the shared run, without images."""
    return gather(read_finished_run(finished), (), (), {}, None, ())


def test_the_policy_allows_this_very_style_and_script_and_images_inside(facts):
    """The digests are those of style and script in the page; nothing else is allowed."""
    text = draw_page(facts, {})
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert "&" not in style
    (allowed,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert allowed.replace("&#39;", "'") == policy(style, script)
    assert "http://" not in text.replace("http://www.w3.org/", "")
    assert "https://" not in text
    assert "@import" not in style
    assert "url(" not in style


def test_the_heaviest_page_is_below_5_mb(facts, finished):
    """A thousand classes with endless names, images of pure noise, every list at its limit."""
    k = MAX_ROWS
    run = read_finished_run(finished)
    files = InMemory([saved(noise(seed, SIDE, SIDE), compress_level=1) for seed in range(8)] * 15)
    galleries = [replace(one, rows=tuple(range(SHOWN))) for one in choose_galleries(run, 0)[:1] * 3]
    pictures = draw_pictures(files, [row for one in galleries for row in one.rows], USUAL)
    comparison = {"tables": (), "drawings": [(LONG, "x" * MAX_DRAWINGS)] * 2}
    comparison |= {"rows": (), "notes": (LONG,), "holdout_evaluations": 1}
    whole = gather(run, galleries, galleries, pictures, comparison, (LONG,))
    matrix = np.random.default_rng(0).integers(100, size=(k, k))
    row = whole["by_class"]["rows"][0] | {"name": LONG}
    first = {"file": LONG, "reason": LONG, "detail": LONG}
    heavy = whole | {
        "classes": [LONG] * k,
        "noise": whole["noise"] | {"transition": matrix, "summary": LONG},
        "by_class": whole["by_class"] | {"rows": [row] * k},
        "confusions": [one | {"counts": matrix} for one in whole["confusions"]],
        "skipped": {"count": k, "reasons": {LONG: k}, "first": [first] * MAX_SKIPPED},
        "warnings": [LONG] * 1_000,
    }
    assert 2_000_000 < len(draw_page(heavy, pictures, comparison).encode()) < 5_000_000


# Its charts.


def share(estimate, low, high):
    return {"estimate": estimate, "low": low, "high": high, "level": 0.95}


def curve(title="assay", n=200, seed=0):
    """A curve of probabilities that promise too much."""
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet([0.4, 0.4, 0.4], size=n)
    truth = np.where(rng.random(n) < 0.8, probs.argmax(axis=1), rng.integers(3, size=n))
    found = evaluate_predictions(truth, probs, ("a", "b", "c"), source="holdout").to_json()
    return {"title": title, **found}


def test_every_accuracy_is_drawn_and_described(seen):
    """A name and a number a row, and the same with its interval in words."""
    rows = [
        {"title": "noisy labels", "n": 900, "accuracy": share(0.4, 0.38, 0.42)},
        {"title": "<assay> & co", "n": 7, "accuracy": share(1.0, 0.96, 1.0)},
    ]
    drawn, words = accuracy_chart(rows)
    assert words.endswith("noisy labels 40.0 % (38.0 to 42.0); <assay> & co 7 of 7 (96.0 to 100.0 %).")
    assert {"noisy labels", "40.0 %", "<assay> & co", "7 of 7"} <= {*seen(drawn).texts}


def test_each_bin_of_the_calibration_is_described(seen):
    """Mean confidence, share right with its interval, and images, of each bin."""
    found = curve()
    drawn, words = reliability_chart(found)
    assert seen(drawn).title == "Calibration of assay"
    assert words.count(" right, n = ") == len(found["reliability"])


def test_errors_of_both_curves_share_one_scale(seen):
    """Both lines are named; a curve without an error can be drawn."""
    curves = [curve("assay", seed=0), curve("corrected labels", seed=1)]
    assert {"assay", "corrected labels"} <= {*seen(coverage_chart(curves)[0]).texts}
    probs = np.tile([0.9, 0.1], (5, 1))
    found = evaluate_predictions(np.zeros(5, dtype=int), probs, ("a", "b"), source="holdout").to_json()
    assert "0.0 % wrong of the first 100 %" in coverage_chart([{"title": "assay", **found}])[1]


@pytest.mark.parametrize(
    ("value", "name"), [(0.0, "h0"), (0.004, "h0"), (0.006, "h1"), (0.5, "h5"), (0.96, "h10"), (1.0, "h10")]
)
def test_a_cell_has_a_colour_by_its_share(value, name):
    """Ten steps, and what is not nothing never looks like nothing."""
    assert level(value) == name
