"""Which files are images: judged by the first bytes, and by the end of the name."""

from assay.data.dataset import Skipped

SNIFF_BYTES = 512
"""As many first bytes as ``allowed_format`` and ``foreign_format`` look at."""

_STARTS = {
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "JPEG": (b"\xff\xd8\xff",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}
_WEBP_CHUNKS = (b"VP8 ", b"VP8L", b"VP8X")
_BMP_HEADER_SIZES = (12, 40, 52, 56, 64, 108, 124)

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

ALLOWED_EXTENSIONS = frozenset(
    (".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff")
)
_FOREIGN_EXTENSIONS = frozenset(
    (
        *(".heic", ".heif", ".avif", ".jp2", ".j2k", ".jxl", ".mpo", ".psd", ".eps", ".fits", ".svg"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".ico", ".dds", ".qoi", ".exr", ".hdr"),
    )
)
_RAW_EXTENSIONS = frozenset(
    (
        *(".nef", ".nrw", ".dng", ".cr2", ".cr3", ".crw", ".arw", ".srf", ".sr2", ".orf", ".rw2", ".raf"),
        *(".pef", ".srw", ".x3f", ".3fr", ".iiq", ".erf", ".kdc", ".dcr", ".mrw"),
    )
)
IMAGE_EXTENSIONS = ALLOWED_EXTENSIONS | _FOREIGN_EXTENSIONS | _RAW_EXTENSIONS
"""Endings that promise an image. Those outside the allow-list count too: a photo that cannot be read
has to show up as a skipped row, not be missing."""


def extension(name: str) -> str:
    """The ending of ``name`` in lower case with its dot; empty if there is none."""
    stem, dot, ending = name.rpartition("/")[2].rpartition(".")
    return f".{ending.lower()}" if stem and dot and ending else ""


def raw_fault(name: str) -> Skipped | None:
    """Why a camera's raw file is not used: it begins as a TIFF does, whose first picture is a thumbnail."""
    if extension(name) not in _RAW_EXTENSIONS:
        return None
    return Skipped("unsupported_format", "a camera's raw file")


def allowed_format(head: bytes) -> str | None:
    """Which of PNG, JPEG, WEBP, BMP, GIF and TIFF the first bytes belong to, if any."""
    for name, starts in _STARTS.items():
        if head.startswith(starts):
            return name
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP" and head[12:16] in _WEBP_CHUNKS:
        return "WEBP"
    # Two letters are too few: "BMW" starts with them. The size of the second header decides.
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BMP_HEADER_SIZES:
        return "BMP"
    return None


def known_format(head: bytes) -> str | None:
    """The image format, allowed or foreign, that the first bytes belong to, if any."""
    return allowed_format(head) or foreign_format(head)


def promises_image(name: str, head: bytes) -> bool:
    """Whether the first bytes of a file with no image's ending are those of an image."""
    # By another ending, such as .pdf, a foreign file says itself that it is no photo.
    return bool(allowed_format(head) if extension(name) else known_format(head))


def foreign_format(head: bytes) -> str | None:
    """The image format outside the allow-list that the first bytes belong to, if one is known."""
    for name, starts in _FOREIGN_STARTS.items():
        if head.startswith(starts):
            return name
    if head[4:8] == b"ftyp":
        return next((name for name, brands in _FTYP_BRANDS.items() if head[8:12] in brands), None)
    text = head[:SNIFF_BYTES].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return "SVG" if text.startswith((b"<svg", b"<?xml")) and b"<svg" in text else None
