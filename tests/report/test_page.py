import re
from dataclasses import replace

import numpy as np
import pytest
from pictures import saved
from small_datasets import InMemory, noise

from assay.data.files import USUAL
from assay.pipeline.finished import read_finished_run
from assay.report.facts import MAX_ROWS, MAX_SKIPPED, gather
from assay.report.galleries import SHOWN, SIDE, choose_galleries, draw_pictures
from assay.report.page import MAX_DRAWINGS, draw_page, policy

LONG = "<&\u202e>" * 2_500


@pytest.fixture
def facts(finished):
    """Of the shared run, without images."""
    return gather(read_finished_run(finished), (), {}, None, ())


def test_the_policy_allows_this_very_style_and_images_inside(facts):
    """The digest is that of the style in the page; a script, a font or an address is not allowed."""
    text = draw_page(facts, {})
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert "&" not in style
    (allowed,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert allowed.replace("&#39;", "'") == policy(style)
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
    whole = gather(run, galleries, pictures, comparison, (LONG,))
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
