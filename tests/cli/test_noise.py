"""assay noise: how wrong the labels are, from labels alone."""

import json
import re

import numpy as np

TABLE = """\
NN % of the labels are wrong (NN % to NN %), with no sign that classes differ.

true class   wrong  95 % interval  pairs
ash         NN %   NN to NN     PP
birch       NN %   NN to NN     PP
cedar       NN %   NN to NN     PP
"""


def noise_command(data, *more):
    return ["noise", data.images, *data.labels, *more]


def test_the_printed_table_is_this(assay, small_data):
    """A sentence, and a row for each class."""
    noisy = assay(*noise_command(small_data))
    assert noisy.code == 0
    text = re.sub(r"\b\d\d$", "PP", re.sub(r"\d+\.\d", "NN", noisy.out), flags=re.MULTILINE)
    squeezed = re.sub(r" +", " ", text)
    assert squeezed == re.sub(r" +", " ", TABLE)
    assert noisy.err == ""


def test_json_has_all_of_it(assay, small_data):
    """Counts, transition, intervals, the comparison with the rest and the sentence, as one object."""
    noisy = assay(*noise_command(small_data, "--json", "--quiet"))
    facts = json.loads(noisy.out)
    assert noisy.err == ""
    assert np.array(facts["counts"]).sum() == facts["n_pairs"] == 120
    assert np.allclose(np.array(facts["transition"]).sum(axis=1), 1)
    assert facts["representative"]["n_rest"] == 120
    assert facts["summary"] == assay(*noise_command(small_data)).out.splitlines()[0]


def test_no_image_is_opened(assay, own_data):
    """With every image replaced by rubbish, the answer is the same."""
    expected = assay(*noise_command(own_data)).out
    for file in own_data.images.iterdir():
        file.write_bytes(b"rubbish")
    assert assay(*noise_command(own_data)).out == expected


def test_class_folders_are_noisy_labels(assay, own_data, tmp_path):
    """Without ``--noisy`` the folders say what the images are given as."""
    names = ("ash", "birch", "cedar")
    lines = ["file,label"]
    for row, label in enumerate(own_data.noisy):
        place = tmp_path / "folders" / names[label]
        place.mkdir(parents=True, exist_ok=True)
        (own_data.images / f"{row}.png").rename(place / f"{row}.png")
        if row % 2 == 0:
            lines.append(f"{names[label]}/{row}.png,{names[own_data.truth[row]]}")
    (tmp_path / "trusted.csv").write_text("\n".join(lines) + "\n")
    noisy = assay("noise", tmp_path / "folders", "--trusted", tmp_path / "trusted.csv")
    assert noisy.code == 0
    assert "noisy labels are the class folders" in noisy.err
    assert noisy.out == assay(*noise_command(own_data_restored(own_data, tmp_path))).out


def own_data_restored(data, tmp_path):
    """The images back in one folder."""
    for file in (tmp_path / "folders").rglob("*.png"):
        file.rename(data.images / file.name)
    return data


def test_control_characters_do_not_reach_the_terminal(assay, own_data):
    """A class name that would steer the terminal is shown as what it is."""
    for name in ("noisy.csv", "trusted.csv"):
        file = own_data.folder / name
        file.write_text(file.read_text().replace("ash", "a\x1b[31msh"))
    noisy = assay(*noise_command(own_data))
    assert noisy.code == 0
    assert "\x1b" not in noisy.out + noisy.err
    assert "a\\x1b[31msh" in noisy.out


def test_without_pairs_it_is_refused(assay, own_data):
    """Labels of images that have no noisy label say nothing of the noise."""
    (own_data.folder / "noisy.csv").write_text("file,label\n1.png,ash\n3.png,birch\n5.png,cedar\n")
    noisy = assay(*noise_command(own_data))
    assert noisy.code == 3
    assert "expected images with both a noisy and a trusted label, got none among 240" in noisy.err
