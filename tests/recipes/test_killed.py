"""A run that is killed, at any point and however often, ends in the same bytes."""

import json
import random
import signal
import time

import pytest
from small_runs import run_assay, start_assay

SAME = ("labels.csv", "noise.json", "model/model.safetensors")

RENAMES = (5, 11)
"""The files in whose naming a run dies: the model, labels.csv."""


@pytest.fixture(scope="module")
def unbroken(small_data, tmp_path_factory):
    """The bytes of a run in a process of its own, with a cache of its own, and the seconds that it took."""
    place = tmp_path_factory.mktemp("unbroken")
    start = time.monotonic()
    done = run_assay(small_data.command(place / "out", "--cache", str(place / "cache")))
    assert done.returncode == 0, done.stderr
    return {name: (place / "out" / name).read_bytes() for name in SAME}, time.monotonic() - start


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_in_the_same_bytes(small_data, unbroken, tmp_path):
    """After each kill no file is half a file, and the same command ends in the bytes of an unbroken run."""
    expected, seconds = unbroken
    command = small_data.command(tmp_path / "out", "--cache", str(tmp_path / "cache"))
    # Not seeded: each run of the tests tries other moments, and every one of them must do.
    moments = [random.uniform(0.3, 1.0) * seconds for _ in range(3)]
    codes = []
    for moment in moments:
        process = start_assay(command)
        time.sleep(moment)
        process.kill()
        process.communicate()
        codes.append(process.returncode)
        for file in (tmp_path / "out").rglob("[!.]*.json"):
            json.loads(file.read_text())
    assert -signal.SIGKILL in codes, f"killed at {moments}, ended with {codes}"
    done = run_assay(command)
    assert done.returncode == 0, done.stderr
    assert {name: (tmp_path / "out" / name).read_bytes() for name in SAME} == expected, f"killed at {moments}"


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
    assert f"{tmp_path / 'out'}: going on with the run that was begun here" in done.stderr
    assert {name: (tmp_path / "out" / name).read_bytes() for name in SAME} == unbroken[0]
    assert not list((tmp_path / "out").rglob(".*.tmp"))
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (record["processes"], record["seal_opened"]) == (3, 3)
