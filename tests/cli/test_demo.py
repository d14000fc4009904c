"""assay demo: what a newcomer sees."""

import json
import re

import pytest

TABLE = """\
NN % of the labels are wrong (NN % to NN %), with no sign that classes differ.

accuracy on 500 new images      95 % interval
baseline: colour histograms  NN %  NN to NN
trusting the noisy labels  NN %  NN to NN
assay  NN %  NN to NN

right labels, of those not trusted      95 % interval
given labels  NN %  NN to NN
fixed by assay  NN %  NN to NN

Labels: kept N · changed N · unsure N · trusted 208 · skipped 0.
Look into OUT/run/: labels.csv, noise.json, evaluation.json, model/.
"""


@pytest.mark.slow
def test_the_demo_prints_what_a_newcomer_understands(assay, tmp_path):
    """A table of three models, a table of labels, where to look; then the same as JSON."""
    command = ["demo", "-o", tmp_path / "demo", "--backbone", "tiny", "--cache", tmp_path / "cache"]
    noisy = assay(*command)
    assert noisy.code == 0
    assert noisy.err.startswith(
        "1,297 digits to learn from, 60% of their labels wrong, 259 trusted; 500 new ones to predict\n"
    )
    text = noisy.out.replace(str(tmp_path / "demo"), "OUT")
    text = re.sub(r"(kept|changed|unsure) \d+", r"\1 N", re.sub(r"\d+\.\d", "NN", text))
    assert re.sub(r" +", " ", text) == re.sub(r" +", " ", TABLE)
    # Given again it computes again, to the same figures.
    facts = json.loads(assay(*command, "--json", "--quiet").out)
    assert f"{100 * facts['new_images']['assay']['estimate']:.1f} %" in noisy.out
    assert facts["new_images"]["histogram"]["estimate"] < facts["new_images"]["assay"]["estimate"]
    assert facts["labels"]["noisy"]["estimate"] < facts["labels"]["corrected"]["estimate"]


def test_a_folder_with_other_files_ends_with_2(assay, tmp_path):
    """Nobody's images are written over."""
    (tmp_path / "mine.png").write_bytes(b"x")
    noisy = assay("demo", "-o", tmp_path, "-q")
    assert noisy.code == 2
    assert "expected an empty folder, found other files" in noisy.err
