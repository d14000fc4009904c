"""The exceptions that assay raises on purpose, the exit code of each, and running out of disk or memory.

::

    AssayError              1
    ├── UsageError          2  a flag, a setting or a combination that is not possible
    │   ├── MissingExtraError  2  a package of an extra is not installed
    │   └── OtherRunError   2  the folder holds a run with other settings
    ├── DataError           3  the input is contradictory, damaged or missing
    │   ├── LabelError      3  a label, or the classes as a whole
    │   ├── TableError      3  a label file that cannot be read
    │   └── ModelError      3  a model folder that is damaged or not ours
    ├── GateError           5  a quality gate failed
    ├── ResourceError       6  disk, memory or time ran out
    └── BusyError           7  another process holds the folder or file

Only ``cli`` turns one into an exit code. A bad *image* is never an exception: it is a ``Skipped`` with its
reason.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeGuard


class AssayError(Exception):
    """Base of all; the message says what was expected, what was found and what to do."""

    exit_code = 1


class UsageError(AssayError):
    """Wrong usage or configuration."""

    exit_code = 2


class MissingExtraError(UsageError):
    """A package is missing; the message is the install line of the extra that has it."""

    def __init__(self, package: str, extra: str) -> None:
        # The folder, not the name: under the name ``assay`` the package index has another project.
        line = f"pip install '.[{extra}]'"
        super().__init__(f"this needs {package}, which is not installed: in assay's folder, {line}")


class OtherRunError(UsageError):
    """The output folder holds a run made with other settings."""


class DataError(AssayError):
    """Input data refused before any work was done on it."""

    exit_code = 3


class LabelError(DataError):
    """A label that cannot be right, or classes that cannot be learned."""


class TableError(DataError):
    """A label file that cannot be read without guessing."""


class ModelError(DataError):
    """A model folder that is damaged, hostile or of another kind."""


class GateError(AssayError):
    """The result is not good enough to ship."""

    exit_code = 5


class ResourceError(AssayError):
    """Out of disk, memory or time; earlier files stay intact."""

    exit_code = 6


class BusyError(AssayError):
    """Another process holds the folder or file."""

    exit_code = 7


_MEMORY_FULL = (
    "can't allocate memory",  # torch, on a CPU
    "could not create a primitive",  # oneDNN
    "bad_alloc",  # C++
    "failed to map segment",  # the loader of shared libraries, an ImportError
    "can't start new thread",  # Python
    "out of memory",  # torch, on a GPU
    "alloc_failed",  # cuBLAS and its relatives
)


def is_disk_full(error: BaseException) -> TypeGuard[OSError]:
    """Whether the disk, a limit on file size or a quota is reached."""
    full = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
    return isinstance(error, OSError) and error.errno in full


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory is full, of the machine or of its GPU: not all libraries raise MemoryError."""
    words = str(error).lower() if isinstance(error, (RuntimeError, ImportError)) else ""
    return isinstance(error, MemoryError) or any(what in words for what in _MEMORY_FULL)


def is_on_gpu(error: BaseException) -> bool:
    """Whether an error that ``is_out_of_memory`` is about the GPU."""
    words = str(error).lower()
    return any(name in words for name in ("cuda", "cublas", "cudnn", "hip"))


@contextmanager
def explain_write_errors(
    path: Path, n_bytes: int = 0, *, advice: str = "choose another place"
) -> Iterator[None]:
    """Turn an OSError of writing to ``path`` into an error of assay; a broken pipe stays one.

    Parameters
    ----------
    n_bytes : how many are written, for the message; 0 if nobody knows
    advice : what else to do about it, such as ``choose another folder with --out``

    Raises
    ------
    ResourceError : the disk, a limit on file size or a quota is reached
    UsageError : the place cannot be written to
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        why = f"cannot write {path}: {error.strerror or error}; "
        if is_disk_full(error):
            needed = f"it needs {n_bytes:,} bytes; " if n_bytes else ""
            raise ResourceError(f"{why}{needed}free disk space or {advice}, then run it again") from error
        raise UsageError(why + advice) from error
