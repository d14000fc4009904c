"""A run that is killed, at any point and however often, ends in the same bytes."""

import json
import signal
import time

import pytest
from small_runs import quick_learning, run_assay, start_assay

from assay.cli.app import run_app

SAME = ("labels.csv", "noise.json", "model/model.safetensors")

RENAMES = (5, 11)
"""The files in whose naming a run dies: the model, labels.csv."""


MARKS = ("out/run.json", "cache/features/*/index", "out/model/model.safetensors")
"""Files that tell how far a run is: it is killed as soon as one is there."""


@pytest.fixture(scope="module")
def unbroken(small_data, tmp_path_factory):
    """The bytes of a run that nobody killed, with a cache of its own."""
    place = tmp_path_factory.mktemp("unbroken")
    with quick_learning():
        assert run_app(small_data.command(place / "out", "--cache", str(place / "cache"), "--quiet")) == 0
    return {name: (place / "out" / name).read_bytes() for name in SAME}


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_in_the_same_bytes(small_data, unbroken, tmp_path):
    """After each kill no file is half a file, and the same command ends in the bytes of an unbroken run."""
    command = small_data.command(tmp_path / "out", "--cache", str(tmp_path / "cache"))
    codes = [kill_at(mark, command, tmp_path) for mark in MARKS]
    assert codes[0] == -signal.SIGKILL
    done = run_assay(command)
    assert done.returncode == 0, done.stderr
    assert {name: (tmp_path / "out" / name).read_bytes() for name in SAME} == unbroken, codes


def kill_at(mark, command, place):
    """Start a run, kill it once ``mark`` is there; its exit code, which is 0 if it was done before that."""
    process = start_assay(command)
    while process.poll() is None and not any(place.glob(mark)):
        time.sleep(0.001)
    process.kill()
    process.communicate()
    for file in (place / "out").rglob("[!.]*.json"):
        json.loads(file.read_text())
    return process.returncode


@pytest.mark.slow
def test_a_run_killed_while_it_writes_ends_in_the_same_bytes(small_data, unbroken, tmp_path):
    """A run that dies with a file written and not yet named leaves nothing half, and goes on."""
    command = small_data.command(tmp_path / "out", "--cache", str(tmp_path / "cache"))
    for number in RENAMES:
        done = run_assay(command, env={"DIE_AT_RENAME": str(number)})
        assert done.returncode == -signal.SIGKILL, (number, done.stderr)
        assert list((tmp_path / "out").rglob(".*.tmp"))
    done = run_assay(command)
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path / 'out'}: resuming run" in done.stderr
    assert {name: (tmp_path / "out" / name).read_bytes() for name in SAME} == unbroken
    assert not list((tmp_path / "out").rglob(".*.tmp"))
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (record["processes"], record["holdout_evaluations"]) == (3, 3)
