"""A finished run is read back from its files; damaged files are tested where a review reads them too."""

import base64
import io
import json
import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from PIL import Image
from small_runs import CLASSES, read_record, read_rows

from assay.data.dataset import ReadOptions
from assay.data.read import read_dataset
from assay.errors import DataError, OtherRunError
from assay.pipeline.finished import open_images, read_finished_run
from assay.pipeline.labels_out import final_labels
from assay.pipeline.result import load_run
from assay.pipeline.run import run
from assay.pipeline.run_files import HOLDOUT, read_facts
from assay.review.run import read_review_run


def test_a_finished_run_is_read_without_its_images(finished, small_data):
    """Rows of labels.csv, in their order, as the run found them, and the root of the images."""
    found = read_finished_run(finished.out)
    frame = finished.result.labels.frame
    assert found.names == tuple(f"{row}.png" for row in range(240))
    assert (len(found), found.labels) == (240, CLASSES)
    assert [found.labels[label] for label in found.proposed] == frame["corrected_label"].to_list()
    assert list(found.actions) == frame["action"].to_list()
    assert found.confidence.tolist() == frame["confidence"].cast(float).to_list()
    assert found.reasons.count(HOLDOUT) == 24
    assert {found.trusted[row] for row, why in enumerate(found.reasons) if why == HOLDOUT} == {-1}
    assert found.stored_place == small_data.images
    assert open_images(found, small_data.images).read(3) == (small_data.images / "3.png").read_bytes()


def test_marked_formulas_are_read_back_as_they_were(own_data, options, tmp_path):
    """With ``excel_safe`` no cell of a run's tables begins a formula, and a review sees the same names."""
    for name in ("noisy.csv", "trusted.csv"):
        file = own_data.folder / name
        file.write_text(file.read_text().replace("ash", "=2+3").replace("\n4", "\n＝4"))
    for image in own_data.images.glob("4*"):
        image.rename(image.with_name(f"＝{image.name}"))
    (own_data.images / "-bad.png").touch()
    runs = []
    for safe in (False, True):
        settings = replace(options, read=own_data.read, excel_safe=safe)
        runs.append(run(own_data.images, tmp_path / str(safe), settings).path)
    plain, safe = runs
    for name in ("labels.csv", "holdout.csv", "image_issues.csv"):
        rows = read_rows(safe, name)
        assert {row.pop("excel_safe") for row in rows} == {"true"}
        cells = [cell for row in rows for cell in row.values()]
        assert any(cell.startswith("'") for cell in cells)
        assert not [cell for cell in cells if cell.startswith(("=", "-", "＝"))]
        assert all(cell.removeprefix("'") in (plain / name).read_text() for cell in cells)
    assert load_run(safe).labels.frame.equals(load_run(plain).labels.frame)
    given = ReadOptions(noisy=safe / "labels.csv", label_column="noisy_label", trusted=safe / "holdout.csv")
    again = read_dataset(own_data.images, replace(given, trusted_label_column="trusted_label"))
    assert {"=2+3", "birch"} < {*again.classes}
    assert {"＝4.png", "-bad.png"} < {*again.names}
    one, other = map(read_review_run, runs)
    assert one.names == other.names
    assert list(final_labels(one)) == list(final_labels(other))
    assert "-bad.png" in other.names


def test_what_is_read_back_is_what_was_written(finished):
    """Noise, evaluations and warnings are those of the files."""
    result, facts = load_run(str(finished.out)), read_facts(finished.out)
    assert facts["folder"] == str(finished.out)
    noise = {name: facts["noise"][name] for name in result.noise.to_json()}
    assert json.loads(json.dumps(result.noise.to_json())) == noise
    for name, found in result.evaluation.items():
        assert json.loads(json.dumps(found.to_json())) == facts["systems"][name]
    assert result.cost.to_json() == facts["cost"]


def test_a_result_is_short_to_read(finished):
    """Noise, labels, figures and warnings, a line each."""
    lines = repr(finished.result).splitlines()
    assert lines[0] == f"RunResult({str(finished.out)!r})"
    assert [line.split(":")[0].strip() for line in lines[1:]] == [
        "noise",
        "labels",
        "histogram baseline",
        "assay",
        "assay, cross-validated",
        "corrected labels, cross-validated",
        "warning",
    ]
    assert "n = 24; balanced " in lines[4]


def test_a_notebook_shows_three_numbers_and_eight_pictures(finished, small_data, own_run, monkeypatch):
    """The likeliest label errors with both labels; numbers alone where the images are gone."""
    shown = finished.result._repr_html_()
    assert re.findall("<th>(.*?)</th>", shown) == [
        "wrong labels",
        "corrected labels right",
        "model right on new images",
        "warning",
    ]
    assert f"Likeliest label errors, 8 of {len(finished.result.labels.issues):,} " in shown
    pictures = re.findall(r"base64,(.*?)\"><figcaption><s>(.*?)</s> → <b>(.*?)</b>.*?<small>(\d+).png", shown)
    assert len(pictures) == 8
    for data, noisy, corrected, row in pictures:
        drawn = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
        here = np.asarray(Image.open(small_data.images / f"{row}.png").convert("RGB"))
        assert (drawn == here).all()  # tiny images are drawn without loss
        assert CLASSES[small_data.noisy[int(row)]] == noisy != corrected
    record = read_record(own_run) | {"images": str(own_run / "gone")}
    (own_run / "run.json").write_text(json.dumps(record))
    assert "<img" not in load_run(own_run)._repr_html_()


def test_a_result_becomes_a_hugging_face_data_set(finished, small_data):
    """Images and labels in the order of labels.csv; missing labels are None, classes have their names."""
    pytest.importorskip("datasets")
    found = finished.result.to_huggingface()
    frame = finished.result.labels.frame
    assert found["file"][:] == frame["file"].to_list()
    row = found[5]
    assert row["image"].tobytes() == Image.open(small_data.images / row["file"]).tobytes()
    names = found.features["corrected_label"].names
    assert [names[label] for label in found["corrected_label"]] == frame["corrected_label"].to_list()
    assert found["trusted_label"][:].count(None) == (frame["trusted_label"] == "").sum()


def test_labels_are_a_table(finished, small_data):
    """One row an image; the issues are unchecked labels that are probably wrong, the likeliest first."""
    labels = finished.result.labels
    assert (len(labels), labels.frame["confidence"].dtype.is_float()) == (240, True)
    assert repr(labels).startswith("240 labels: 96 trusted, ")
    issues = labels.issues
    rows = [int(name.removesuffix(".png")) for name in issues["file"]]
    assert (small_data.noisy[rows] != small_data.truth[rows]).mean() > 0.9
    assert issues["label_quality"].is_sorted()
    assert set(issues["action"]) <= {"changed", "unsure"}
    assert labels.to_pandas().shape == (240, 9)
    assert labels.to_pandas()["trusted_label"][1] == ""
    assert "<table" in labels._repr_html_()


def test_damaged_results_are_refused(own_run):
    """Those that somebody changed, and those that are gone."""
    facts = json.loads((own_run / "noise.json").read_text())
    (own_run / "noise.json").write_text(json.dumps({**facts, "rate": "high"}))
    with pytest.raises(DataError, match=r"expected the results that assay wrote, got others \("):
        load_run(own_run)
    (own_run / "noise.json").unlink()
    with pytest.raises(DataError, match=r"expected the folder of a finished run \(.*noise.json"):
        load_run(own_run)


def test_an_unfinished_run_and_an_older_one_are_refused(own_run, tmp_path):
    """Each in one sentence that says what to do."""
    for read in (load_run, read_finished_run):
        with pytest.raises(DataError, match="expected the folder of a finished run; run 'assay run' to its"):
            read(tmp_path / "nothing")
    (own_run / "run.json").write_text(json.dumps(read_record(own_run) | {"schema": 1}))
    message = "was written by an older version of assay and cannot be read by this one; run again with anoth"
    with pytest.raises(OtherRunError, match=message):
        read_finished_run(own_run)


def test_images_that_were_moved_are_found(own_data, options, tmp_path):
    """Files are named below the root, whatever folder the label files began at; links are followed again."""
    (own_data.images / "7.png").rename(tmp_path / "elsewhere.png")
    (own_data.images / "7.png").symlink_to(tmp_path / "elsewhere.png")
    for name, above in (("noisy.csv", f"{own_data.images.name}/"), ("trusted.csv", f"{own_data.images}/")):
        header, *rows = (own_data.folder / name).read_text().splitlines()
        (own_data.folder / name).write_text("\n".join([header, *(above + row for row in rows)]) + "\n")
    read = replace(own_data.read, follow_symlinks=True)
    run(own_data.images, tmp_path / "out", replace(options, read=read))
    moved = own_data.images.rename(tmp_path / "moved")
    found = read_finished_run(tmp_path / "out")
    assert found.names[3] == "3.png"
    images = open_images(found, moved)
    assert images.read(3) == (moved / "3.png").read_bytes()
    assert images.read(7) == (tmp_path / "elsewhere.png").read_bytes()


def test_the_column_of_a_parquet_file_is_known_again(own_data, options, tmp_path):
    """Its images are in a column of an unusual name, and are named by their rows."""
    stored = tmp_path / "images.parquet"
    photos = [(own_data.images / f"{row}.png").read_bytes() for row in range(240)]
    pl.DataFrame({"photo": photos}).write_parquet(stored)
    for name, labels in (("noisy.csv", own_data.noisy), ("trusted.csv", own_data.truth[:60])):
        (tmp_path / name).write_text("".join(f"{label}\n" for label in labels))
    read = ReadOptions(noisy=tmp_path / "noisy.csv", trusted=tmp_path / "trusted.csv", path_column="photo")
    run(stored, tmp_path / "out", replace(options, read=read))
    found = read_finished_run(tmp_path / "out")
    assert found.names[:2] == ("1", "2")
    assert open_images(found, stored).read(3) == photos[3]
