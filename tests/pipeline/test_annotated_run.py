"""A run on the labels of several annotators: its files, its report, its review."""

import csv
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from small_runs import CLASSES, read_rows

from assay.data.dataset import ReadOptions
from assay.errors import OtherRunError
from assay.pipeline.finished import read_finished_run
from assay.pipeline.result import load_run
from assay.pipeline.run import run
from assay.pipeline.run_files import ANNOTATED_COLUMNS, LABEL_COLUMNS, OUTLIER_COLUMN
from assay.report.write import write_report
from assay.review.run import read_review_run
from assay.review.session import reasons

SKILLS = {"ann": 0.9, "bob": 0.7, "=eve": 0.6, "spam": 0.0}


@pytest.fixture(scope="module")
def annotated(small_data, options, tmp_path_factory):
    """(options, finished run, {image: labels}) of three people and one who always gives the same label."""
    folder, rng = tmp_path_factory.mktemp("annotated"), np.random.default_rng(0)
    given: dict[str, list[str]] = {}
    with (folder / "long.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["task", "worker", "label"])
        for row, truth in enumerate(small_data.truth[:-3]):
            for name, skill in SKILLS.items():
                if rng.random() < 0.8:
                    label = truth if rng.random() < skill else (truth + rng.integers(1, 3)) % 3
                    label = 1 if name == "spam" else label
                    given.setdefault(f"{row}.png", []).append(CLASSES[label])
                    table.writerow([f"{row}.png", name, CLASSES[label]])
    read = ReadOptions(annotations=folder / "long.csv", trusted=small_data.read.trusted)
    settings = replace(options, read=read, excel_safe=True)
    run(small_data.images, folder / "out", settings)
    return settings, folder / "out", given


def test_labels_csv_says_what_annotators_gave(annotated, small_data):
    """How many labels an image has, how many are the corrected one, and what one more would gain."""
    _, out, given = annotated
    rows = read_rows(out)
    assert tuple(rows[0])[:-1] == (*LABEL_COLUMNS, OUTLIER_COLUMN, *ANNOTATED_COLUMNS)
    right = 0
    for row in rows:
        labels = given.get(row["file"], [])
        assert int(row["annotations"]) == len(labels)
        share = labels.count(row["corrected_label"]) / len(labels) if labels else None
        assert row["agreement"] == ("" if share is None else str(round(share, 4)))
        assert float(row["label_gain"]) >= 0
        assert row["action"] != "trusted" or float(row["label_gain"]) == 0
        truth = CLASSES[small_data.truth[int(row["file"].removesuffix(".png"))]]
        right += row["corrected_label"] == truth
    assert right > 0.97 * len(rows)


def test_annotators_csv_ranks_people(annotated, small_data):
    """The most accurate first, the one who says the same of every image as likely spam; marked for Excel."""
    settings, out, _ = annotated
    rows = read_rows(out, "annotators.csv")
    assert [row["annotator"] for row in rows] == ["ann", "bob", "'=eve", "spam"]
    assert [float(row["spam"]) > 0.5 for row in rows] == [False, False, False, True]
    with settings.read.annotations.open(newline="") as file:
        labels = [*csv.DictReader(file)]
    for row in rows:
        own = [one for one in labels if one["worker"] == row["annotator"].removeprefix("'")]
        truth = [CLASSES[small_data.truth[int(one["task"].removesuffix(".png"))]] for one in own]
        right = np.mean([one["label"] == label for one, label in zip(own, truth, strict=True)])
        assert float(row["low"]) < right < float(row["high"])
        assert int(row["labels"]) == len(own)
    facts = json.loads((out / "evaluation.json").read_text())["annotators"]
    assert facts == {"annotators": 4, "labels": sum(int(row["labels"]) for row in rows), "spam": 1}


def test_a_run_with_annotators_is_read_back(annotated, small_data):
    """As numbers in a notebook, as cells for the other commands; the same command computes nothing again."""
    settings, out, _ = annotated
    frame = load_run(out).labels.frame
    assert frame["annotations"].sum() == load_run(out).facts["annotators"]["labels"]
    assert tuple(read_finished_run(out).annotated) == ANNOTATED_COLUMNS
    before = (out / "run.json").stat().st_mtime_ns
    run(small_data.images, out, settings)
    assert (out / "run.json").stat().st_mtime_ns == before


def test_other_annotators_are_another_run(annotated, small_data, tmp_path):
    """Even if the most frequent labels are the same."""
    settings, out, _ = annotated
    renamed = tmp_path / "long.csv"
    renamed.write_text(settings.read.annotations.read_text().replace("bob", "bill"))
    other = replace(settings, read=replace(settings.read, annotations=renamed))
    with pytest.raises(OtherRunError, match="other images or labels"):
        run(small_data.images, out, other)


def test_annotators_without_trusted_labels(annotated, small_data, tmp_path):
    """Labels are corrected and annotators ranked all the same; nothing is measured, 50 images are listed."""
    settings, _, given = annotated
    alone = replace(settings, read=replace(settings.read, trusted=None))
    result = run(small_data.images, tmp_path, alone)
    rows = read_rows(tmp_path)
    truth = {f"{row}.png": CLASSES[label] for row, label in enumerate(small_data.truth)}

    def right(label_of):
        return np.mean([label_of(row) == truth[row["file"]] for row in rows])

    majority = right(lambda row: row["noisy_label"])
    assert right(lambda row: row["corrected_label"]) > majority + 0.03
    assert {row["action"] for row in rows} <= {"kept", "changed", "unsure"}
    annotators = read_rows(tmp_path, "annotators.csv")
    assert [row["annotator"] for row in annotators] == ["ann", "bob", "'=eve", "spam"]
    assert [float(row["spam"]) > 0.5 for row in annotators] == [False, False, False, True]
    assert not result.evaluation
    assert (result.noise.n_pairs, result.noise.rate.level) == (0, 0.0)
    assert result.facts["labels"]["accuracy"] is None
    assert sum(row["part"] == "random" for row in read_rows(tmp_path, "plan.csv")) == 50
    # The next run knows what a person checked of that list.
    checked = [row["file"] for row in read_rows(tmp_path, "plan.csv") if row["part"] == "random"]
    (tmp_path / "checked.csv").write_text(
        "file,label\n" + "".join(f"{name},{truth[name]}\n" for name in checked)
    )
    more = replace(settings, holdout=0, read=replace(settings.read, trusted=tmp_path / "checked.csv"))
    measured = run(small_data.images, tmp_path / "next", more)
    assert measured.noise.n_pairs == 50 - sum(name not in given for name in checked)
    assert measured.facts["labels"]["accuracy"]["estimate"] > 0.9


def test_the_report_names_annotators(annotated, tmp_path):
    """Whom to ask next, who may be labelling at random; a report without annotators has no such section."""
    _, out, _ = annotated
    page = write_report(out, tmp_path / "r.html").page.read_text()
    section = re.search(r'<section id="annotators".*?</section>', page, re.DOTALL)[0]
    words = re.sub(r"<[^>]+>|\s+", " ", section)
    assert "4 annotators gave" in words
    assert re.search(r"to ask next .* ann .* bob .* =eve .* at random .* spam ", words)
    facts = json.loads((tmp_path / "r.json").read_text())["annotators"]
    assert [row["name"] for row in facts["best"]] == ["ann", "bob", "=eve"]


def test_the_review_shows_how_annotators_agree(annotated, small_data):
    """Beside the other reasons; not for an image that nobody labelled."""
    _, out, given = annotated
    found = read_review_run(out, small_data.images)
    row = next(row for row in np.flatnonzero(found.is_open).tolist() if found.names[row] in given)
    labels = given[found.names[row]]
    proposed = found.title(int(found.proposed[row]))
    share = labels.count(proposed) / len(labels)
    words = f"{len(labels)} annotator labels: {100 * share:.1f} % are {proposed}."
    assert words in reasons(found, row, [])
    alone = next(row for row in range(len(found)) if found.names[row] not in given)
    assert not [line for line in reasons(found, alone, []) if "annotator" in line]
