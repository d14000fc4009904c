"""Streams that are full, or that nobody reads any more."""

import os
from pathlib import Path

import pytest
from small_runs import run_assay


def test_a_full_device_ends_with_6(finished, small_data):
    """Rows that nobody can store are no bug."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with Path("/dev/full").open("w") as full:
        done = run_assay(["noise", small_data.images, *small_data.labels, "-q"], stdout=full)
    assert done.returncode == 6
    assert done.stderr == "assay: no room to write: No space left on device\n"


def test_a_reader_that_has_enough_is_no_error(finished, small_data):
    """``assay predict … | head -1`` prints its line and no traceback."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        done = run_assay(["predict", finished, small_data.images, "-q"], stdout=pipe)
    assert (done.returncode, done.stderr) == (0, "")


def test_work_goes_on_though_nobody_hears_of_it(finished, small_data, tmp_path):
    """``assay run … 2> >(head -1)`` ends as it would with somebody who reads its words."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        done = run_assay(small_data.command(tmp_path / "out"), stderr=pipe)
    assert done.returncode == 0
    assert "accuracy of" in done.stdout
    assert (tmp_path / "out" / "labels.csv").read_bytes() == (finished / "labels.csv").read_bytes()


def test_a_pipe_has_no_colours(finished, small_data):
    """Without a terminal no escape sequence is written, to either stream."""
    done = run_assay(small_data.command(finished), env={"FORCE_COLOR": "1", "TERM": "xterm-256color"})
    assert done.returncode == 0
    assert "\x1b" not in done.stdout + done.stderr
