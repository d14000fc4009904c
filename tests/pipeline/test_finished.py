"""A finished run is read back from its files; refusals are tested where a review reads them too."""

import json
from dataclasses import replace

import polars as pl
import pytest
from review_runs import TITLES, write_run

from assay.data.dataset import ReadOptions
from assay.errors import DataError, OtherRunError
from assay.pipeline.finished import open_images, read_finished_run
from assay.pipeline.outputs import HOLDOUT
from assay.pipeline.run import run


def test_a_finished_run_is_read_without_its_images(finished, small_data):
    """Rows of labels.csv, in their order, as the run found them, and the root of the images."""
    found = read_finished_run(finished.out)
    frame = finished.result.labels.frame
    assert found.names == tuple(f"{row}.png" for row in range(240))
    assert (len(found), found.labels) == (240, TITLES)
    assert [found.labels[label] for label in found.proposed] == frame["corrected_label"].to_list()
    assert list(found.actions) == frame["action"].to_list()
    assert found.confidence.tolist() == frame["confidence"].cast(float).to_list()
    assert found.reasons.count(HOLDOUT) == 24
    assert {found.trusted[row] for row, why in enumerate(found.reasons) if why == HOLDOUT} == {-1}
    assert found.stored_place == small_data.images
    assert open_images(found, small_data.images).read(3) == (small_data.images / "3.png").read_bytes()


def test_an_unfinished_run_and_an_older_one_are_refused(tmp_path):
    """Each in one sentence that says what to do."""
    with pytest.raises(DataError, match="expected the folder of a finished run; run 'assay run' to its end"):
        read_finished_run(tmp_path)
    file = write_run(tmp_path / "out") / "run.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "schema": 1}))
    message = (
        "was written by an older version of assay and cannot be read by this one; run again with another"
    )
    with pytest.raises(OtherRunError, match=message):
        read_finished_run(tmp_path / "out")


def test_images_that_were_moved_are_found(own_data, options, read_of, tmp_path):
    """Files are named below the root, whatever folder the label files began at; links are followed again."""
    (own_data.images / "7.png").rename(tmp_path / "elsewhere.png")
    (own_data.images / "7.png").symlink_to(tmp_path / "elsewhere.png")
    for name, above in (("noisy.csv", f"{own_data.images.name}/"), ("trusted.csv", f"{own_data.images}/")):
        header, *rows = (own_data.folder / name).read_text().splitlines()
        (own_data.folder / name).write_text("\n".join([header, *(above + row for row in rows)]) + "\n")
    read = replace(read_of(own_data), follow_symlinks=True)
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
