"""Archives of any kind, packed on the spot."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from pathlib import Path

from pictures import picture, saved

from assay.data.dataset import Listing

PNG = saved(picture(4, 4))
LIMIT = 64 * 1024 * 1024
PACKERS = {"tar": bytes, "tar.gz": gzip.compress, "tar.bz2": bz2.compress, "tar.xz": lzma.compress}
KINDS = ["zip", "stored zip", *PACKERS]


def zipped(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """A zip of these members at ``path``."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def tarred(members: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    """A plain tar of these members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def packed(folder: Path, kind: str, members: dict[str, bytes]) -> Path:
    """An archive of any kind, under a name that does not say which."""
    path = folder / "archive"
    if kind == "zip":
        return zipped(path, members)
    if kind == "stored zip":
        return zipped(path, members, zipfile.ZIP_STORED)
    path.write_bytes(PACKERS[kind](tarred(members)))
    return path


def reasons(listing: Listing) -> dict[str, str]:
    """Why each skipped row is skipped."""
    return {listing.names[index]: skipped.reason for index, skipped in listing.skipped.items()}
