"""Writing to a cache that may be full, or not ours to write to."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from assay.errors import ResourceError, UsageError
from assay.shortage import is_disk_full


@contextmanager
def explained(folder: Path, needed: int = 0) -> Iterator[None]:
    """Turn the operating system's refusal to write ``needed`` bytes below ``folder`` into ours.

    Raises
    ------
    ResourceError : the disk or a limit on file size is reached
    UsageError : the place cannot be written to
    """
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        if is_disk_full(error):
            raise ResourceError(
                f"cannot write to the cache {folder}: {why}; it needs {needed:,} bytes more: "
                "make room, or name another cache with ASSAY_CACHE, and run it again"
            ) from error
        raise UsageError(
            f"cannot write to the cache {folder}: {why}; name another one with ASSAY_CACHE"
        ) from error
