"""Who was right where: the one place that reads the trusted labels of the holdout."""

import json
from dataclasses import replace

import numpy as np
import pytest

from assay.data.read import read_dataset
from assay.data.write import write_rows
from assay.errors import DataError
from assay.evaluate import mcnemar, wilson
from assay.notebook.compare_judge import FIGURES, NOT_MEASURED, judge, leaked_names

HELD = np.arange(0, 80, 2)
"""40 trusted rows."""


@pytest.fixture(scope="module")
def dataset(small_data, options):
    return read_dataset(small_data.images, options.read)


def answers(dataset, right: int, seed: int) -> np.ndarray:
    """Class of each held-out image; the first ``right``, after a shuffle, are right."""
    found = (dataset.trusted[HELD] + 1) % 3
    rows = np.random.default_rng(seed).permutation(len(HELD))[:right]
    found[rows] = dataset.trusted[HELD][rows]
    return found


def write_holdout(file, dataset, found, *, order=(0, 1, 2), rows=HELD):
    """holdout.csv of a model whose labels may come in another order."""
    probs = np.full((len(rows), 3), 0.1)
    probs[np.arange(len(rows)), found[: len(rows)]] = 0.8
    labels = [dataset.classes[k] for k in order]
    write_rows(file, ("name", *labels), [[dataset.names[row] for row in rows], *(probs[:, k] for k in order)])
    return file


@pytest.fixture
def said(dataset, tmp_path):
    """Three recipes, 30, 20 and 35 of 40 right, one with its labels in another order."""
    shares = {"histogram": 20, "cnn-1": 30, "model-2": 35}
    return {
        system: write_holdout(
            tmp_path / f"{system}.csv",
            dataset,
            answers(dataset, right, seed),
            order=(2, 0, 1) if system == "cnn-1" else (0, 1, 2),
        )
        for seed, (system, right) in enumerate(shares.items())
    }


def test_accuracy_has_its_wilson_interval(dataset, said):
    """The share that is right, on all held-out images, whatever the order of a model's labels."""
    figures = judge(dataset, HELD, said, ()).figures
    for system, right in {"histogram": 20, "cnn-1": 30, "model-2": 35}.items():
        row, interval = figures[system], wilson(right, 40)
        assert (row["n"], row["source"]) == (40, "holdout")
        assert (row["accuracy"], row["accuracy_low"], row["accuracy_high"]) == pytest.approx(
            (interval.estimate, interval.low, interval.high)
        )
        assert tuple(row) == FIGURES


def test_each_is_compared_with_its_rivals(dataset, said):
    """McNemar on the same images, first the rival; nobody is compared with itself."""
    figures = judge(dataset, HELD, said, ()).figures
    found = {
        system: answers(dataset, right, seed)
        for seed, (system, right) in enumerate({"histogram": 20, "cnn-1": 30, "model-2": 35}.items())
    }
    truth = dataset.trusted[HELD]
    expected = mcnemar(truth, found["histogram"], found["cnn-1"]).to_json()
    assert figures["cnn-1"]["against_baseline"] == expected
    assert expected["difference"]["estimate"] == pytest.approx(0.25)
    expected = mcnemar(truth, found["model-2"], found["cnn-1"]).to_json()
    assert figures["cnn-1"]["against_model_2"] == expected
    assert figures["histogram"]["against_baseline"] is None
    assert figures["model-2"]["against_model_2"] is None


def test_without_a_rival_there_is_no_test(dataset, said):
    """A rival that failed or was not asked for leaves its column empty, not the figures."""
    figures = judge(dataset, HELD, {"cnn-1": said["cnn-1"]}, ()).figures
    assert figures["cnn-1"]["accuracy"] == 0.75
    assert (figures["cnn-1"]["against_baseline"], figures["cnn-1"]["against_model_2"]) == (None, None)


def test_all_rows_are_of_the_same_images(dataset, said):
    """An image that one model could not use, or whose picture was learned from, counts for none."""
    found = answers(dataset, 30, 1)
    write_holdout(said["cnn-1"], dataset, found, rows=HELD[:-4])
    leaked = (dataset.names[HELD[0]], "never held out.png")
    verdict = judge(dataset, HELD, said, leaked)
    assert {row["n"] for row in verdict.figures.values()} == {35}
    assert verdict.left_out == (dataset.names[HELD[0]],)
    assert verdict.skipped == 4
    right = (found == dataset.trusted[HELD])[1:-4]
    assert verdict.figures["cnn-1"]["accuracy"] == pytest.approx(right.mean())


def test_where_no_image_is_left_nothing_is_measured(dataset, said):
    """If all were left out the rows are there, without figures."""
    verdict = judge(dataset, HELD, said, [dataset.names[row] for row in HELD])
    assert verdict.figures == dict.fromkeys(said, NOT_MEASURED)


@pytest.mark.parametrize("text", ["", "name,ash,birch\n", "name,ash,birch,cedar\n1.png,0.1,x,0.3\n"])
def test_a_file_of_something_else_is_refused(dataset, said, text):
    """Empty, without a class, or with words for numbers."""
    said["cnn-1"].write_text(text)
    with pytest.raises(DataError, match=r"cnn-1.csv: expected what a comparison writes, .* delete it"):
        judge(dataset, HELD, said, ())


def test_a_copy_of_a_learned_image_is_left_out(dataset, tmp_path):
    """Byte for byte, of an image that may be learned from; and what the run found to be a near twin."""
    contents = [bytes([row]) * 32 for row in range(len(dataset))]
    contents[HELD[0]] = contents[1]
    contents[HELD[1]] = contents[HELD[2]]  # both are held out: nobody learned from either
    contents[HELD[3]] = contents[3] = None  # two that could not be read are no copies
    first = dataset.names[HELD[0]]
    assert leaked_names(dataset, HELD, contents, None) == {first}
    (tmp_path / "evaluation.json").write_text(json.dumps({"left_out": ["7.png"]}))
    assert leaked_names(dataset, HELD, contents, tmp_path) == {first, "7.png"}


def test_classes_are_told_by_their_titles(dataset, said):
    """Names for people change no figure."""
    titled = replace(dataset, titles=("a", "b, c", 'd "e"'))
    assert judge(titled, HELD, said, ()) == judge(dataset, HELD, said, ())
