"""A run that is killed, at any point and however often, ends in the same bytes."""

import json
import signal
import time
from dataclasses import replace

import pytest
from small_runs import read_record, run_assay, same_bytes, start_assay

from assay.pipeline.run import run

RENAMES = (5, 11)
"""The files in whose naming a run dies: the model, labels.csv."""


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_in_the_same_bytes(small_data, options, finished, tmp_path):
    """Killed with features half stored, then with a file written and not yet named, it resumes."""
    out, cache, said = tmp_path / "out", tmp_path / "cache", []
    command = small_data.command(out, "--cache", str(cache))
    process = start_assay(command)
    while process.poll() is None and not any(cache.glob("features/*/index")):
        time.sleep(0.001)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    for number in RENAMES:
        done = run_assay(command, env={"DIE_AT_RENAME": str(number)})
        assert done.returncode == -signal.SIGKILL, (number, done.stderr)
        assert list(out.rglob(".*.tmp"))
        for file in out.rglob("[!.]*.json"):
            json.loads(file.read_text())
    assert (out / "model" / "model.safetensors").exists()
    run(small_data.images, out, replace(options, cache=cache), notify=said.append)
    assert f"{out}: resuming run" in said
    assert same_bytes(out) == same_bytes(finished.out)
    assert not list(out.rglob(".*.tmp"))
    record = read_record(out)
    assert (record["processes"], record["holdout_evaluations"]) == (4, 3)
