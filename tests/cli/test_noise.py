"""assay noise: how many labels are wrong, from the labels alone."""

import json
import re

import numpy as np
import pytest
from small_runs import CLASSES
from written import change, without_figures

TABLE = """\
N % of the labels are wrong (N % to N %), with no sign that classes differ. Counted: 47 of 120 checked labels.

true class wrong 95 % interval estimate
ash N of N N to N N %
birch N of N N to N N %
cedar N of N N to N N %

Estimate of a class: that of all classes, since the test found no difference.
assay run gives a somewhat different rate: it leaves the held-out labels out, \
and adds what its predictions say of all images.
"""


@pytest.fixture
def noise(assay):
    """Give ``assay noise`` for these data."""
    return lambda data, *more: assay("noise", data.images, *data.labels, *more)


def test_the_printed_table_is_this(noise, small_data):
    """A sentence, and a row for each class; as JSON, all that was estimated."""
    found = noise(small_data)
    assert (found.code, found.err) == (0, "")
    assert re.sub(r"\b\d+ of \d\d\b", "N of N", without_figures(found.out)) == TABLE
    as_json = noise(small_data, "--json", "--quiet")
    facts = json.loads(as_json.out)
    assert as_json.err == ""
    assert np.array(facts["counts"]).sum() == facts["n_pairs"] == 120
    assert np.allclose(np.array(facts["transition"]).sum(axis=1), 1)
    assert facts["representative"]["n_rest"] == 120
    assert facts["summary"] == found.out.splitlines()[0]


def test_paths_of_another_machine_are_found(assay, noise, own_data):
    """By their end alike, without what they begin with, or by file name; the figures are the same."""
    expected, noisy = noise(own_data).out, own_data.folder / "noisy.csv"
    lines = noisy.read_text().splitlines()
    for start, flags in (("C:\\a\\", ()), ("sub/", ("--strip-prefix", "sub")), ("b/", ("--match", "name"))):
        noisy.write_text("\n".join([lines[0], *(start + line for line in lines[1:])]))
        assert noise(own_data, *flags).out == expected
        assert flags or "all paths begin with C:\\a\\, which is not here" in noise(own_data).err


def test_no_image_is_opened(noise, own_data):
    """With every image replaced by rubbish, the answer is the same."""
    expected = noise(own_data).out
    for file in own_data.images.iterdir():
        file.write_bytes(b"rubbish")
    assert noise(own_data).out == expected


def test_class_folders_are_noisy_labels(assay, noise, small_data, own_data, tmp_path):
    """Without ``--noisy`` the folder of an image is its noisy label."""
    trusted = tmp_path / "trusted.csv"
    lines = ["file,label"]
    for row, label in enumerate(own_data.noisy):
        place = tmp_path / "folders" / CLASSES[label] / f"{row}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        (own_data.images / place.name).rename(place)
        if row % 2 == 0:
            lines.append(f"{CLASSES[label]}/{row}.png,{CLASSES[own_data.truth[row]]}")
    trusted.write_text("\n".join(lines) + "\n")
    found = assay("noise", tmp_path / "folders", "--trusted", trusted)
    assert (found.code, "class folders" in found.err) == (0, True)
    assert found.out == noise(small_data).out


def test_control_characters_do_not_reach_the_terminal(noise, own_data):
    """A class name that would steer the terminal is escaped (fault 35)."""
    for name in ("noisy.csv", "trusted.csv"):
        change(own_data.folder / name, "ash", "a\x1b[31msh")
    found = noise(own_data)
    assert found.code == 0
    assert "\x1b" not in found.out + found.err
    assert "a\\x1b[31msh" in found.out


def test_long_labels_are_cut_in_messages(noise, refused, own_data):
    """A label of 10,000 characters is whole in JSON, and short in a table or an error."""
    change(own_data.folder / "noisy.csv", "ash", "a" * 10_000)
    message = refused(3, "is not a class", "noise", own_data.images, *own_data.labels)
    change(own_data.folder / "trusted.csv", "ash", "a" * 10_000)
    lines = message.splitlines() + noise(own_data).out.splitlines()
    assert max(map(len, lines)) < 400
    assert json.loads(noise(own_data, "--json", "--quiet").out)["classes"][0] == "a" * 10_000


def test_a_forgotten_label_file_is_the_one_that_is_named(refused, own_data):
    """Noisy labels come first, with the places where they were looked for, then trusted ones."""
    noisy, trusted = own_data.labels[:2], own_data.labels[2:]
    nowhere = (
        "neither --noisy FILE nor a metadata file among the images nor class folders gave any. Pass --noisy"
    )
    refused(3, nowhere, "noise", own_data.images)
    refused(3, nowhere, "noise", own_data.images, *trusted)
    refused(2, "expected --trusted FILE with labels that you checked", "noise", own_data.images, *noisy)


def test_swapped_label_files_are_noticed(assay, own_data):
    """There are more noisy labels than trusted ones, as a rule."""
    noisy, trusted = own_data.labels[1::2]
    found = assay("noise", own_data.images, "--noisy", trusted, "--trusted", noisy)
    few = (
        "fewer noisy labels (trusted.csv: 120) than trusted ones (noisy.csv: 240); are the two files swapped?"
    )
    assert few in found.err


def test_without_pairs_it_is_refused(refused, own_data):
    """Trusted labels of images without a noisy one do not show the noise."""
    (own_data.folder / "noisy.csv").write_text("file,label\n1.png,ash\n3.png,birch\n5.png,cedar\n")
    refused(3, "got none among 240", "noise", own_data.images, *own_data.labels)
