"""What a checkpoint gives back, and what it does not."""

import os

import numpy as np
import pytest

from assay.errors import ResourceError
from assay.train.checkpoint import Checkpoint, read_checkpoint, write_checkpoint


@pytest.fixture
def checkpoint() -> Checkpoint:
    """A matrix in Fortran's order, a lone number, and facts."""
    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3).T, "step.0": np.float32(7).reshape(())}
    return Checkpoint(tensors, {"epoch": 3, "history": [{"loss": 0.5}]})


def test_what_was_written_is_read(checkpoint, tmp_path):
    """Numbers, shapes and facts, into a folder that need not be there."""
    file = tmp_path / "checkpoints" / "state.safetensors"
    write_checkpoint(file, checkpoint, "this run")
    found = read_checkpoint(file, "this run")
    assert found.facts == checkpoint.facts
    assert {name: tensor.shape for name, tensor in found.tensors.items()} == {"a": (3, 2), "step.0": ()}
    for name, tensor in checkpoint.tensors.items():
        assert np.array_equal(found.tensors[name], tensor)


def test_another_run_does_not_go_on_from_it(checkpoint, tmp_path):
    """Other settings or data are another identity."""
    write_checkpoint(tmp_path / "state", checkpoint, "this run")
    assert read_checkpoint(tmp_path / "state", "another") is None


def test_without_a_whole_checkpoint_there_is_none(checkpoint, tmp_path):
    """No file, half a file, another file: learning starts anew."""
    file = tmp_path / "state"
    assert read_checkpoint(file, "this run") is None
    write_checkpoint(file, checkpoint, "this run")
    whole = file.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"{}", os.urandom(64)):
        file.write_bytes(damaged)
        assert read_checkpoint(file, "this run") is None


def test_a_full_disk_leaves_the_one_before(checkpoint, tmp_path, monkeypatch):
    """The message says what was needed; what was good stays good."""
    file = tmp_path / "state"
    write_checkpoint(file, checkpoint, "this run")

    def full(descriptor, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("assay.data.write.os.write", full)
    with pytest.raises(ResourceError, match="free disk space"):
        write_checkpoint(file, Checkpoint({}, {"epoch": 4}), "this run")
    assert read_checkpoint(file, "this run").facts["epoch"] == 3
