"""Image files before they are decoded: which may be opened, their bytes, formats and limits.

A name from a table, an archive or a folder is not trusted. Its text is checked before anything is opened;
then it is resolved, checked to lie below its root, and opened once: what is decoded and hashed later are the
bytes read here. A hard link cannot be told from a file, so one to a file elsewhere is read like any other;
only pixels that decode are ever used, and bytes are never shown.
"""

import errno
import hashlib
import os
import re
import stat
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Skipped:
    """Why an image cannot be used. Never an exception, never a missing row."""

    reason: str
    """A code: ``truncated``, ``bad_path``, ``missing_image``…"""
    detail: str = ""
    """What was found, for a person to read."""


@dataclass(frozen=True)
class Limits:
    """The largest image file that is used; one beyond is skipped before it is decoded."""

    max_bytes: int = 64 * 1024 * 1024
    max_pixels: int = 50_000_000
    """Width times height, as the header declares them."""
    background: tuple[int, int, int] = (255, 255, 255)
    """RGB color shown behind transparent pixels."""

    @staticmethod
    def of(max_pixels: int) -> "Limits":
        """For images of up to ``max_pixels``; if that is more than usual, max_bytes grows with it."""
        if max_pixels <= USUAL.max_pixels:
            return Limits(max_pixels=max_pixels)
        return Limits(4 * max_pixels, max_pixels)  # more than uncompressed RGB needs


USUAL = Limits()


# --- formats -------------------------------------------------------------------------------------------

SNIFF_BYTES = 512
"""How many first bytes ``allowed_format`` and ``foreign_format`` need."""

_STARTS = {
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "JPEG": (b"\xff\xd8\xff",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}
_FOREIGN_STARTS = {
    "JPEG 2000": (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
    "JPEG XL": (b"\xff\x0a", b"\0\0\0\x0cJXL "),
    "PSD": (b"8BPS",),
    "EPS": (b"%!PS", b"\xc5\xd0\xd3\xc6"),
    "PDF": (b"%PDF-",),
    "FITS": (b"SIMPLE  =",),
    "ICO": (b"\0\0\1\0",),
    "DDS": (b"DDS ",),
    "QOI": (b"qoif",),
    "Netpbm": tuple(b"P%d%c" % (kind, space) for kind in range(1, 8) for space in b" \n\r\t"),
}
_FTYP_BRANDS = {
    "AVIF": (b"avif", b"avis"),
    "HEIC": (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"),
}
_RAW_EXTENSIONS = frozenset(
    (
        *(".nef", ".nrw", ".dng", ".cr2", ".cr3", ".crw", ".arw", ".srf", ".sr2", ".orf", ".rw2", ".raf"),
        *(".pef", ".srw", ".x3f", ".3fr", ".iiq", ".erf", ".kdc", ".dcr", ".mrw"),
    )
)
IMAGE_EXTENSIONS = _RAW_EXTENSIONS.union(
    (".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff"),
    # Formats that are not supported: such a photo must be reported as skipped, not be missing.
    (".heic", ".heif", ".avif", ".jp2", ".j2k", ".jxl", ".mpo", ".psd", ".eps", ".fits", ".svg"),
    (".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".ico", ".dds", ".qoi", ".exr", ".hdr"),
)
"""Endings that promise an image."""


def extension(name: str) -> str:
    """The ending of ``name`` in lower case with its dot; empty if there is none."""
    stem, dot, ending = name.rpartition("/")[2].rpartition(".")
    return f".{ending.lower()}" if stem and dot and ending else ""


def raw_fault(name: str) -> Skipped | None:
    """Why a camera's raw file is skipped: it looks like a TIFF, but its first image is only a thumbnail."""
    if extension(name) not in _RAW_EXTENSIONS:
        return None
    return Skipped("unsupported_format", "a camera's raw file")


def allowed_format(head: bytes) -> str | None:
    """PNG, JPEG, WEBP, BMP, GIF or TIFF by the first bytes; None if it is none of them."""
    for name, starts in _STARTS.items():
        if head.startswith(starts):
            return name
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP" and head[12:16] in (b"VP8 ", b"VP8L", b"VP8X"):
        return "WEBP"
    # Two letters are too few, "BMW" starts with them: the size of the second header decides.
    header_sizes = (12, 40, 52, 56, 64, 108, 124)
    return "BMP" if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in header_sizes else None


def foreign_format(head: bytes) -> str | None:
    """The name of an image format that is not supported, by the first bytes; None if it is none we know."""
    for name, starts in _FOREIGN_STARTS.items():
        if head.startswith(starts):
            return name
    if head[4:8] == b"ftyp":  # films begin like this too
        return next((name for name, brands in _FTYP_BRANDS.items() if head[8:12] in brands), None)
    text = head[:SNIFF_BYTES].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return "SVG" if text.startswith((b"<svg", b"<?xml")) and b"<svg" in text else None


def promises_image(name: str, head: bytes) -> bool:
    """Whether a file without an image's ending starts like an image."""
    # With an ending such as .pdf, a file of a foreign format was not meant as a photo.
    return bool(allowed_format(head) or (not extension(name) and foreign_format(head)))


# --- paths ---------------------------------------------------------------------------------------------

_FORBIDDEN = re.compile(
    r"""(?P<empty>\A\Z)
    |(?P<NUL>\0)
    |(?P<drive>\A[A-Za-z]:)
    |(?P<URL>\A(?:[A-Za-z][A-Za-z0-9+.-]*:[\\/]{2}|(?:data|file):))
    |(?P<absolute>\A[\\/])
    |(?P<parent>(?:\A|[\\/])\.\.(?:[\\/]|\Z))""",
    re.VERBOSE,
)
_WORDS = {
    "empty": "an empty path",
    "NUL": "a NUL character",
    "drive": "a drive letter",
    "URL": "a URL",
    "absolute": "an absolute path",
    "parent": "a '..' part",
}
_DIGITS = re.compile(r"[0-9]+")


def open_flags(*names: str) -> int:
    """Flags of ``os.open`` for bytes that no child process inherits, those that the system has."""
    return sum(getattr(os, name, 0) for name in (*names, "O_CLOEXEC", "O_BINARY", "O_NOINHERIT"))


# O_NONBLOCK: opening a FIFO without a writer would hang. O_NOFOLLOW: the path is resolved already, so a link
# here was planted since.
_OPEN_FLAGS = open_flags("O_RDONLY", "O_NOFOLLOW", "O_NONBLOCK")

_REASONS = {
    errno.ENOENT: "missing",
    errno.ENOTDIR: "missing",
    errno.EACCES: "permission",
    errno.EPERM: "permission",
    errno.ELOOP: "symlink_loop",
    errno.ENAMETOOLONG: "bad_path",
    errno.EINVAL: "bad_path",
    errno.ENXIO: "not_regular",
}


def natural_key(name: str) -> tuple[str, str]:
    """Sort key for natural order: ``2.png`` before ``10.png``; any str will do, surrogates included."""

    def counted(number: re.Match[str]) -> str:
        # By length, then as text: ``int`` refuses more than 4,300 digits.
        digits = number[0].lstrip("0")
        return f"\0{chr(min(len(digits), sys.maxunicode))}{digits}"

    # The name itself decides between ``1.png`` and ``01.png``.
    return _DIGITS.sub(counted, name), name


def check_entry(entry: str) -> Skipped | None:
    r"""None if the text of ``entry`` may name a file below a root, else ``bad_path``; nothing is opened.

    Both ``/`` and ``\`` separate parts.
    """
    found = _FORBIDDEN.search(entry)
    if found is None:
        return None
    word = _WORDS[str(found.lastgroup)]
    return Skipped("bad_path", f"expected a path below the images, got {word}: {entry[:200]!r}")


def resolve_below(root: Path, entry: str, *, follow_symlinks: bool = False) -> str | Skipped:
    """The real path of ``entry``, free of links, which lies below the real path of ``root``."""
    bad = check_entry(entry)
    if bad is not None:
        return bad
    try:
        base = os.path.realpath(root, strict=True)
        resolved = os.path.realpath(f"{base}/{entry}", strict=True)
    except OSError as error:
        return _skipped_by(error, entry)
    except ValueError as error:  # a NUL in the name of a folder
        return Skipped("bad_path", f"{str(root)!r}: {error}")
    # With the separator, so that whole parts are compared: /a/bc is not below /a/b.
    if follow_symlinks or resolved.startswith(base.rstrip(os.sep) + os.sep):
        return resolved
    return Skipped("outside_root", f"{entry!r} is a link that leaves the folder of images")


def open_regular(
    root: Path,
    entry: str,
    *,
    follow_symlinks: bool = False,
    max_bytes: int = sys.maxsize,
    first_bytes: int | None = None,
) -> bytes | Skipped:
    """The bytes of the regular file ``entry`` below ``root``, read once.

    Parameters
    ----------
    follow_symlinks : let a link lead out of ``root``; links that stay inside are always followed
    max_bytes : a longer file is not read
    first_bytes : read no more than these

    Skipped : ``bad_path``, ``missing``, ``outside_root``, ``symlink_loop``, ``permission``, ``not_regular``,
    ``too_large``, ``changed``, ``unreadable``
    """
    resolved = resolve_below(root, entry, follow_symlinks=follow_symlinks)
    if isinstance(resolved, Skipped):
        return resolved
    try:
        with ExitStack() as stack:
            descriptor = os.open(resolved, _OPEN_FLAGS)
            stack.callback(os.close, descriptor)
            found = os.fstat(descriptor)  # of what was opened: at the path may be another file by now
            if not stat.S_ISREG(found.st_mode):
                return Skipped("not_regular", f"{entry!r} is not a regular file")
            if first_bytes is not None:
                return os.read(descriptor, first_bytes)
            size = found.st_size
            if size > max_bytes:
                return Skipped("too_large", f"{entry!r} has {size:,} bytes, the limit is {max_bytes:,}")
            data = os.read(descriptor, size + 1)  # one more, to see a file that grows
            # One call may return a part: of 2 GiB and more, and on network disks.
            while len(data) < size and (more := os.read(descriptor, size + 1 - len(data))):
                data += more
    except OSError as error:
        return _skipped_by(error, entry)
    changed = Skipped("changed", f"{entry!r} changed its size while it was being read")
    return data if len(data) == size else changed


def _skipped_by(error: OSError, entry: str) -> Skipped:
    reason = _REASONS.get(error.errno or 0, "unreadable")
    return Skipped(reason, f"{entry!r}: {error.strerror or error}")


def read_named(path: Path, max_bytes: int = USUAL.max_bytes) -> bytes | Skipped:
    """The bytes of the file at ``path``, wherever links lead: the user named it."""
    return open_regular(path.parent, path.name, follow_symlinks=True, max_bytes=max_bytes)


def file_digest(path: Path) -> str:
    """sha256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_version(path: Path) -> str:
    """Size and last change of a file, which is not read; empty where there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):  # a NUL in a path
        return ""
    return f"{found.st_size}-{found.st_mtime_ns}"


def stamps_digest(paths: Iterable[str]) -> str:
    """sha256 over the size and the last change of each file, which are not read; "-" where there is none."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            found = Path(path).stat()
            digest.update(f"{found.st_size} {found.st_mtime_ns}\n".encode())
        except (OSError, ValueError):  # a NUL in a path
            digest.update(b"-\n")
    return digest.hexdigest()
