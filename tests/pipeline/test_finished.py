"""What the files of a run say of each image; refusals are tested where a review reads them too."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from review_runs import TITLES, draw_images, write_run

from assay.data.dataset import ReadOptions
from assay.errors import DataError
from assay.pipeline.finished import open_images, read_finished_run
from assay.pipeline.outputs import HOLDOUT
from assay.pipeline.run import run
from assay.types import Labels


def test_a_finished_run_is_read_without_its_images(finished):
    """Rows of labels.csv, in their order, as the run found them."""
    found = read_finished_run(finished.out)
    corrected = finished.result.learned.corrected
    assert found.names == finished.result.dataset.names
    assert (len(found), found.labels) == (240, TITLES)
    assert found.proposed.tolist() == corrected.corrected.tolist()
    assert found.actions == tuple(corrected.actions.tolist())
    assert np.abs(found.confidence - corrected.confidence).max() <= 0.00005
    assert found.reasons.count(HOLDOUT) == 24
    assert {found.trusted[row] for row, why in enumerate(found.reasons) if why == HOLDOUT} == {-1}


def test_it_says_where_the_images_were(finished, small_data):
    """As run.json has it; a run that does not say has none."""
    found = read_finished_run(finished.out)
    assert found.stored_place == small_data.images
    assert open_images(found, small_data.images).read(3) == (small_data.images / "3.png").read_bytes()


def test_a_run_without_a_place_has_none(tmp_path):
    """Runs of early versions did not store it."""
    assert read_finished_run(write_run(tmp_path / "out")).stored_place is None


def test_other_images_are_refused(tmp_path):
    """Not one of the run's images is there."""
    draw_images(tmp_path / "other", ["x.png"])
    found = read_finished_run(write_run(tmp_path / "out"))
    message = "none of the 40 images of the run is there, the first is '0.png'; name the images that the run"
    with pytest.raises(DataError, match=re.escape(message)):
        open_images(found, tmp_path / "other")


def test_an_unfinished_run_is_refused(tmp_path):
    """There is nothing to read yet."""
    with pytest.raises(DataError, match="expected the folder of a finished run; run 'assay run' to its end"):
        read_finished_run(tmp_path)


def test_links_that_the_run_followed_are_followed_again(own_data, options, read_of, tmp_path):
    """Without being asked once more."""
    (own_data.images / "7.png").rename(tmp_path / "elsewhere.png")
    (own_data.images / "7.png").symlink_to(tmp_path / "elsewhere.png")
    read = replace(read_of(own_data), follow_symlinks=True)
    run(own_data.images, tmp_path / "out", replace(options, read=read))
    images = open_images(read_finished_run(tmp_path / "out"), own_data.images)
    assert images.read(7) == (tmp_path / "elsewhere.png").read_bytes()


def test_a_column_that_the_run_was_told_is_known_again(own_data, options, tmp_path):
    """A Parquet file whose images are in a column of an unusual name."""
    stored = tmp_path / "images.parquet"
    photos = [(own_data.images / f"{row}.png").read_bytes() for row in range(240)]
    pl.DataFrame({"photo": photos}).write_parquet(stored)
    noisy = write_file(tmp_path / "noisy.csv", own_data.noisy)
    trusted = write_file(tmp_path / "trusted.csv", own_data.truth[:60])
    read = ReadOptions(noisy=noisy, trusted=trusted, path_column="photo")
    run(stored, tmp_path / "out", replace(options, read=read))
    assert open_images(read_finished_run(tmp_path / "out"), stored).read(3) == photos[3]


def write_file(place: Path, labels: Labels) -> Path:
    """A label a line."""
    place.write_text("".join(f"{label}\n" for label in labels))
    return place


@pytest.mark.parametrize("absolute", [False, True])
def test_images_that_were_moved_are_found(own_data, options, read_of, tmp_path, absolute):
    """Also where the label files named them from a folder above, or from the root."""
    above = f"{own_data.images}/" if absolute else f"{own_data.images.name}/"
    for name in ("noisy.csv", "trusted.csv"):
        header, *rows = (own_data.folder / name).read_text().splitlines()
        lines = [header, *(above + row for row in rows)]
        (own_data.folder / name).write_text("\n".join(lines) + "\n")
    run(own_data.images, tmp_path / "out", replace(options, read=read_of(own_data)))
    moved = own_data.images.rename(tmp_path / "moved")
    found = read_finished_run(tmp_path / "out")
    assert found.names[3] == f"{above}3.png"
    assert open_images(found, moved).read(3) == (moved / "3.png").read_bytes()
