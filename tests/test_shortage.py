"""What a machine says when it has no room left."""

import errno

import pytest

from assay.shortage import is_disk_full, is_on_gpu, is_out_of_memory


@pytest.mark.parametrize(
    ("error", "is_short", "is_graphics"),
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
def test_memory_that_is_full_is_known_by_its_words(error, is_short, is_graphics):
    """Python has a class for it, torch only words, of which those of a graphics processor are told apart."""
    assert is_out_of_memory(error) is is_short
    assert (is_short and is_on_gpu(error)) is is_graphics


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
def test_a_disk_that_is_full_is_known_by_its_number(number):
    """Of errors of the operating system alone."""
    assert is_disk_full(OSError(number, "full"))
    assert not is_disk_full(OSError(errno.EACCES, "no"))
    assert not is_disk_full(ValueError("full"))
