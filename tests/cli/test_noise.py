"""assay noise: how many labels are wrong, from the labels alone."""

import json
import re

import numpy as np
import pytest
from small_runs import CLASSES

TABLE = """\
NN % of the labels are wrong (NN % to NN %), with no sign that classes differ.

true class   wrong  95 % interval  pairs
ash         NN %   NN to NN     PP
birch       NN %   NN to NN     PP
cedar       NN %   NN to NN     PP
"""


@pytest.fixture
def noise(assay):
    """Give ``assay noise`` for these data."""
    return lambda data, *more: assay("noise", data.images, *data.labels, *more)


def test_the_printed_table_is_this(noise, small_data):
    """A sentence, and a row for each class; as JSON, all that was estimated."""
    found = noise(small_data)
    assert (found.code, found.err) == (0, "")
    text = re.sub(r"\b\d\d$", "PP", re.sub(r"\d+\.\d", "NN", found.out), flags=re.MULTILINE)
    assert re.sub(r" +", " ", text) == re.sub(r" +", " ", TABLE)
    as_json = noise(small_data, "--json", "--quiet")
    facts = json.loads(as_json.out)
    assert as_json.err == ""
    assert np.array(facts["counts"]).sum() == facts["n_pairs"] == 120
    assert np.allclose(np.array(facts["transition"]).sum(axis=1), 1)
    assert facts["representative"]["n_rest"] == 120
    assert facts["summary"] == found.out.splitlines()[0]


def test_no_image_is_opened(noise, own_data):
    """With every image replaced by rubbish, the answer is the same."""
    expected = noise(own_data).out
    for file in own_data.images.iterdir():
        file.write_bytes(b"rubbish")
    assert noise(own_data).out == expected


def test_class_folders_are_noisy_labels(assay, noise, small_data, own_data, tmp_path):
    """Without ``--noisy`` the folder of an image is its noisy label."""
    lines = ["file,label"]
    for row, label in enumerate(own_data.noisy):
        place = tmp_path / "folders" / CLASSES[label]
        place.mkdir(parents=True, exist_ok=True)
        (own_data.images / f"{row}.png").rename(place / f"{row}.png")
        if row % 2 == 0:
            lines.append(f"{CLASSES[label]}/{row}.png,{CLASSES[own_data.truth[row]]}")
    (tmp_path / "trusted.csv").write_text("\n".join(lines) + "\n")
    found = assay("noise", tmp_path / "folders", "--trusted", tmp_path / "trusted.csv")
    assert found.code == 0
    assert "class folders" in found.err
    assert found.out == noise(small_data).out


def test_control_characters_do_not_reach_the_terminal(noise, own_data):
    """A class name that would steer the terminal is escaped (fault 35)."""
    for name in ("noisy.csv", "trusted.csv"):
        file = own_data.folder / name
        file.write_text(file.read_text().replace("ash", "a\x1b[31msh"))
    found = noise(own_data)
    assert found.code == 0
    assert "\x1b" not in found.out + found.err
    assert "a\\x1b[31msh" in found.out


def test_without_pairs_it_is_refused(noise, own_data):
    """Trusted labels of images without a noisy one do not show the noise."""
    (own_data.folder / "noisy.csv").write_text("file,label\n1.png,ash\n3.png,birch\n5.png,cedar\n")
    found = noise(own_data)
    assert found.code == 3
    assert "got none among 240" in found.err
