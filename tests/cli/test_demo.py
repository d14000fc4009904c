"""assay demo: what a newcomer sees."""

import json
import re

import pytest
from written import without_figures

TABLE = """\
N % of the labels are wrong (N % to N %), with no sign that classes differ. \
Counted: N of 96 checked labels; the rate also uses predictions for 576 labels.

accuracy on 500 new images 95 % interval
baseline: colour histograms N % N to N
trained on the noisy labels as they are N % N to N
assay N % N to N

correct labels, among images without a trusted one 95 % interval
noisy labels N % N to N
labels corrected by assay N % N to N

Labels: kept N · changed N · unsure N · trusted 96 · outlier N · skipped 0.
Results: OUT/run/ with labels.csv, noise.json, evaluation.json, model/.
"""


@pytest.mark.slow
def test_the_demo_prints_what_a_newcomer_understands(assay, tmp_path, monkeypatch):
    """A table of three models, a table of labels, where the results are; then the same as JSON."""
    monkeypatch.setattr("assay.pipeline.demo.DIGITS", 1_100)
    command = ["demo", "-o", tmp_path / "demo", "--backbone", "tiny", "--cache", tmp_path / "cache"]
    found = assay(*command)
    assert found.code == 0
    assert found.err.startswith(
        "600 images for training, 60% of their labels wrong, 120 trusted labels; 500 new images"
    )
    text = without_figures(found.out.replace(str(tmp_path / "demo"), "OUT"))
    text = re.sub(r"\d+ of 96", "N of 96", text)
    assert re.sub(r"(kept|changed|unsure|outlier) \d+", r"\1 N", text) == TABLE
    facts = json.loads(assay(*command, "--json", "--quiet").out)
    assert f"{100 * facts['new_images']['assay']['estimate']:.1f} %" in found.out
    assert facts["new_images"]["histogram"]["estimate"] < facts["new_images"]["assay"]["estimate"]
    assert facts["labels"]["noisy"]["estimate"] < facts["labels"]["corrected"]["estimate"]


def test_a_folder_with_other_files_is_refused(refused, tmp_path):
    """Nobody's images are written over."""
    (tmp_path / "mine.png").write_bytes(b"x")
    refused(2, "expected an empty folder", "demo", "-o", tmp_path, "-q")
