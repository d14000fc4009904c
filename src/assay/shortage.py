"""What a machine says when it has no room left, on disk or in memory."""

import errno
from typing import TypeGuard

DISK_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
"""Of an OSError: the disk, a limit on file size or a quota is reached."""

_MEMORY_FULL = (
    "can't allocate memory",  # torch, on a processor
    "can't start new thread",  # Python
    "out of memory",  # torch, on a graphics processor
    "alloc_failed",  # its libraries
)


def is_disk_full(error: BaseException) -> TypeGuard[OSError]:
    """Whether the disk is full, or a limit on file size or a quota is reached."""
    return isinstance(error, OSError) and error.errno in DISK_FULL


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory is full, of the machine or of its graphics processor: torch says so in RuntimeErrors."""
    words = str(error).lower() if isinstance(error, RuntimeError) else ""
    return isinstance(error, MemoryError) or any(what in words for what in _MEMORY_FULL)


def is_on_gpu(error: BaseException) -> bool:
    """Whether an error that ``is_out_of_memory`` is one of a graphics processor."""
    words = str(error).lower()
    return any(name in words for name in ("cuda", "cublas", "cudnn", "hip"))
