"""The errors of assay, and running out of disk or memory."""

import errno
from pathlib import Path

import pytest

from assay.errors import (
    MissingExtraError,
    ResourceError,
    UsageError,
    explain_write_errors,
    is_disk_full,
    is_on_gpu,
    is_out_of_memory,
)

PLACE, ADVICE = Path("/cache"), "choose another cache with ASSAY_CACHE"


@pytest.mark.parametrize(
    ("error", "is_full", "is_gpu"),
    [
        (MemoryError(), True, False),
        (RuntimeError("can't start new thread"), True, False),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), True, False),
        (RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB."), True, True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), True, True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False, False),
        (ValueError("out of memory"), False, False),
    ],
)
def test_full_memory_is_recognised(error, is_full, is_gpu):
    """Fault 49: Python has a class for it, torch only words, which tell the GPU apart."""
    assert is_out_of_memory(error) is is_full
    assert (is_full and is_on_gpu(error)) is is_gpu


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
def test_a_full_disk_is_a_resource_error(number):
    """Fault 48: the message has the path, the bytes needed and what to do."""
    assert is_disk_full(OSError(number, "full"))
    with (
        pytest.raises(ResourceError) as refused,
        explain_write_errors(PLACE, 1234567, advice=ADVICE),
    ):
        raise OSError(number, "full")
    assert str(refused.value) == (
        "cannot write /cache: full; it needs 1,234,567 bytes; free disk space or choose another cache with "
        "ASSAY_CACHE, then run it again"
    )


def test_a_place_that_cannot_be_written_is_a_usage_error():
    """Any other error of the system names the place and what to do."""
    error = PermissionError(errno.EACCES, "keep out")
    assert not is_disk_full(error)
    with (
        pytest.raises(UsageError, match=f"^cannot write {PLACE}: keep out; choose another place$"),
        explain_write_errors(PLACE),
    ):
        raise error


@pytest.mark.parametrize("error", [ValueError("mine"), BrokenPipeError(errno.EPIPE, "gone")])
def test_other_errors_pass_through(error):
    """A bug stays itself, and so does a reader that went away."""
    assert not is_disk_full(error)
    with pytest.raises(type(error)) as passed, explain_write_errors(PLACE):
        raise error
    assert passed.value is error


def test_a_missing_extra_says_the_install_line():
    """The line names the folder, not the package index."""
    message = r"^this needs torch, which is not installed: in assay's folder, pip install '\.\[train\]'$"
    with pytest.raises(MissingExtraError, match=message):
        raise MissingExtraError("torch", "train")
