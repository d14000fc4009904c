"""The members of a tar file, compressed or not."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
import tempfile
import weakref
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NoReturn

from assay.data.dataset import Skipped
from assay.data.members import Entry, Member, without_dots
from assay.errors import DataError, ResourceError

_OPENERS: dict[bytes, Callable[[Path], io.BufferedIOBase]] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
}
_CHUNK_BYTES = 1024 * 1024
_MAX_RATIO = 200
_SMALL_BYTES = 1024**3


class UnpackedStore:
    """A compressed tar, unpacked once into an unnamed temporary file.

    A compressed stream can be read only from its start, but images are asked for in any order by several
    threads: without this, each read would unpack all that lies before. It takes disk space, not memory.
    """

    def __init__(self, path: Path) -> None:
        with tempfile.TemporaryFile() as file:
            _unpack(path, file)
            self._descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._descriptor)

    def read_at(self, offset: int, n_bytes: int) -> bytes | Skipped:
        """See ``ByteStore``."""
        return os.pread(self._descriptor, n_bytes, offset)

    def open(self) -> IO[bytes]:
        """The unpacked tar as a file of its own position."""
        file = os.fdopen(os.dup(self._descriptor), "rb")
        file.seek(0)
        return file

    def __reduce__(self) -> NoReturn:
        raise TypeError("a compressed tar cannot be sent to another process; unpack it into a folder first")


def is_compressed(head: bytes) -> bool:
    """Whether the first bytes are those of gzip, bzip2 or xz."""
    return head.startswith(tuple(_OPENERS))


def tar_entries(path: Path, file: IO[bytes]) -> Iterator[Entry]:
    """The members of a plain tar ``file``, in its order. Closes ``file``; ``path`` is for messages.

    Raises
    ------
    DataError : the tar is damaged or cut off, wherever that is
    """
    places: dict[str, Member] = {}
    try:
        with file, tarfile.open(fileobj=file, mode="r:") as archive:
            for info in archive:
                archive.members.clear()  # type: ignore[attr-defined]  # typeshed lacks it; it would keep them all
                if info.size < 0:
                    raise _damaged(path, f"a member of {info.size:,} bytes")
                name = without_dots(info.name)
                place = _place(info, places)
                if isinstance(place, Member):
                    places[info.name] = place
                yield Entry(name, place)
            _check_end(path, file, archive.offset)
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise _damaged(path, str(error)) from error


def _place(info: tarfile.TarInfo, places: dict[str, Member]) -> Member | Skipped | None:
    if info.isdir():
        return None
    if info.islnk():  # a hard link: tar stores a second name of a file this way
        return places.get(info.linkname) or Skipped(
            "missing", f"a link to {info.linkname!r}, which is not there"
        )
    if info.issparse():
        return Skipped("unsupported", "a sparse member")
    if not info.isreg():
        return Skipped("not_regular", "a link, FIFO or device in a tar file")
    return Member(info.offset_data, info.size, info.size)


def _check_end(path: Path, file: IO[bytes], offset: int) -> None:
    """Refuse what tarfile lets pass: a damaged header, which it takes for the end."""
    file.seek(offset)
    block = file.read(tarfile.BLOCKSIZE)
    if block != bytes(tarfile.BLOCKSIZE):
        raise _damaged(path, f"no end mark at byte {offset}")


def _unpack(path: Path, target: IO[bytes]) -> None:
    with path.open("rb") as file:
        head = file.read(8)
    opener = next(opener for magic, opener in _OPENERS.items() if head.startswith(magic))
    limit = max(_SMALL_BYTES, _MAX_RATIO * path.stat().st_size)
    try:
        with opener(path) as packed:
            while chunk := packed.read(_CHUNK_BYTES):
                _write(path, target, chunk)
                if target.tell() > limit:
                    raise _damaged(path, f"it unpacks to more than {limit:,} bytes")
    except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:  # bz2 has no error of its own
        raise _damaged(path, str(error)) from error


def _write(path: Path, target: IO[bytes], chunk: bytes) -> None:
    try:
        target.write(chunk)
        target.flush()
    except OSError as error:
        raise ResourceError(
            f"{path}: expected room to unpack it in {tempfile.gettempdir()}, got: {error.strerror} after "
            f"{target.tell():,} bytes; set TMPDIR to a larger disk or unpack it into a folder"
        ) from error


def _damaged(path: Path, what: str) -> DataError:
    return DataError(
        f"{path}: expected a whole tar file, got a damaged one ({what}); copy or download it again"
    )
