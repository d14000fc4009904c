"""The members of a zip file, from its directory."""

import stat
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

from assay.data.dataset import Skipped
from assay.data.members import ByteStore, Entry, Member, without_dots
from assay.data.zip_directory import read_directory
from assay.errors import DataError

_LOCAL_HEADER = struct.Struct("<4s22xHH")
_ENCRYPTED = 1
_UTF8 = 0x800
"""Flag of a member whose name is UTF-8; else it is cp437, says APPNOTE.TXT 4.4.4, which many ignore."""

_DAMAGED = (
    zipfile.BadZipFile,
    NotImplementedError,
    UnicodeDecodeError,
    struct.error,
    EOFError,
    OverflowError,
)
"""What is raised for a directory that is none."""


def zip_entries(path: Path, store: ByteStore) -> Iterator[Entry]:
    """The members of the zip ``path``, in the order of its directory.

    Raises
    ------
    DataError : the directory is damaged or cut off
    """
    try:
        for info in read_directory(path):
            name = _name(info).replace("\\", "/")
            place = None if name.endswith("/") else _fault(info) or _locate(info, store)
            yield Entry(without_dots(name), place)
    except _DAMAGED as error:
        raise DataError(
            f"{path}: expected a whole zip file, got a damaged one ({error}); copy or download it again"
        ) from error


def _name(info: zipfile.ZipInfo) -> str:
    """The name of a member, in UTF-8 wherever it can be that: hardly any other text is by chance."""
    # zipfile ends ``filename`` at a NUL, which would hide it from the check of names.
    name = info.orig_filename
    if name.isascii() or info.flag_bits & _UTF8:
        return name
    try:
        return name.encode("cp437").decode("utf-8")
    except UnicodeError:
        return name


def _fault(info: zipfile.ZipInfo) -> Skipped | None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        return Skipped("not_regular", "a link or device in a zip file")
    if info.flag_bits & _ENCRYPTED:
        return Skipped("unsupported", "encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return Skipped("unsupported", f"compressed by method {info.compress_type}; only deflate can be read")
    return None


def _locate(info: zipfile.ZipInfo, store: ByteStore) -> Member | Skipped:
    """Look behind the header before the member; its length is known only there."""
    header = store.read_at(info.header_offset, _LOCAL_HEADER.size)
    if isinstance(header, Skipped):
        return header
    if len(header) < _LOCAL_HEADER.size or not header.startswith(b"PK\3\4"):
        return Skipped("corrupt", "the archive is damaged here: no header")
    _, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header)
    return Member(
        offset=info.header_offset + _LOCAL_HEADER.size + name_bytes + extra_bytes,
        packed_bytes=info.compress_size,
        n_bytes=info.file_size,
        is_deflated=info.compress_type == zipfile.ZIP_DEFLATED,
        crc=info.CRC,
    )
