"""A new folder of images under names that every system can hold: copies of their bytes, or links to them."""

import hashlib
import re
import secrets
import shutil
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path

from assay.data.dataset import ImageSource, Skipped, address_of
from assay.data.files import IMAGE_EXTENSIONS, allowed_format, extension
from assay.data.place import is_url
from assay.data.sources import is_hidden
from assay.data.write import make_folder
from assay.errors import UsageError, explain_write_errors

# Signs that Windows refuses, or that mean something in a path; a dot or space where it would be lost.
_UNSAFE = re.compile(r'[\x00-\x1f\x7f"*/:<>?\\|%\ud800-\udfff]|\A[. ]|[. ]\Z')
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_MOST_BYTES = 200  # of the 255 that a name can have: the rest is for a number and an ending
_ENDINGS = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "BMP": ".bmp", "GIF": ".gif", "TIFF": ".tif"}


def safe_name(text: str) -> str:
    """``text`` as the name of one file or folder: other characters are percent-encoded, such as ``a%2Fb``.

    ``urllib.parse.unquote`` gives the text back, unless it was longer than a name can be.
    """
    name = _UNSAFE.sub(lambda found: _percent(found[0]), text)
    if not name or is_hidden(name) or _DEVICE.fullmatch(name):
        name = _percent(name[:1]) + name[1:] if name else "%00"  # no text has a NUL alone
    if len(encoded := name.encode()) <= _MOST_BYTES:
        return name
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{encoded[: _MOST_BYTES - 40].decode(errors='ignore')}~{digest}{extension(name)[:16]}"


def _percent(text: str) -> str:
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a surrogate, such as JSON may have
        data = text.encode("utf-8", "surrogatepass")
    return "".join(f"%{byte:02X}" for byte in data)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder to write to, which becomes ``target`` at the end; after an exception nothing is left of it.

    Raises
    ------
    UsageError : ``target`` is neither new nor an empty folder
    """
    if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise UsageError(f"{target}: expected a new or an empty folder, got one in use; choose another name")
    make_folder(target.parent)
    folder = target.parent / f".{secrets.token_hex(8)}.part"
    with explain_write_errors(target):
        folder.mkdir()
    try:
        yield folder
        with explain_write_errors(target):
            folder.replace(target)
    except BaseException:  # Ctrl-C too must leave nothing behind
        shutil.rmtree(folder, ignore_errors=True)
        raise


@dataclass
class ImageTree:
    """Puts images into a folder, each in a folder of its own choice below it."""

    root: Path
    source: ImageSource
    link: bool = False
    """Symbolic links to the files in place of copies."""
    _taken: set[tuple[str, str]] = field(default_factory=set)
    _folders: dict[str, str] = field(default_factory=dict)

    def folder(self, label: str) -> str:
        """The name of the folder of ``label``."""
        if label not in self._folders:
            name = self._folders[label] = self._take("", [safe_name(label)])
            with explain_write_errors(self.root):
                (self.root / name).mkdir()
        return self._folders[label]

    def add(self, index: int, name: str, label: str) -> str | Skipped:
        """Put image ``index`` of the source, called ``name``, into the folder of ``label``.

        Returns
        -------
        Its path below the root, with ``/``; or why it cannot be read
        """
        last = name.rpartition("/")[2]
        data: bytes | None = None
        if not self.link or extension(last) not in IMAGE_EXTENSIONS:
            found = self.source.read(index)
            if isinstance(found, Skipped):
                return found
            data = found
        ending = ""
        if data is not None and extension(last) not in IMAGE_EXTENSIONS:
            ending = _ENDINGS.get(allowed_format(data) or "", "")  # other tools go by the ending
        folder = self.folder(label)
        # The whole path where another image has the last part of it.
        free = self._take(folder, [f"{safe_name(last)}{ending}", f"{safe_name(name)}{ending}"])
        target = self.root / folder / free
        with explain_write_errors(target, len(data or b"")):
            if self.link:
                target.symlink_to(file_of(self.source, index))
            elif data is not None:
                with target.open("xb") as file:
                    file.write(data)
        return f"{folder}/{free}"

    def _take(self, folder: str, choices: Sequence[str]) -> str:
        """The first name that nothing in a folder has yet, if need be with a number before it."""
        numbered = (f"{number}~{choices[-1]}" for number in count(2))
        name = next(one for one in chain(choices, numbered) if (folder, _key(one)) not in self._taken)
        self._taken.add((folder, _key(name)))
        return name


def _key(name: str) -> str:
    """Equal for names that are one on some systems."""
    return unicodedata.normalize("NFC", name).casefold()


def file_of(source: ImageSource, index: int) -> Path:
    """The file of image ``index``; UsageError if it has none of its own."""
    uri, member, _ = address_of(source, index)
    is_file = not is_url(uri) and (Path(uri).is_dir() if member else Path(uri).is_file())
    if not is_file:  # an image in an archive or table, or at a URL
        raise UsageError(
            f"expected images that are files of a folder, got some in {uri}; unpack them and name their "
            "folder behind that of the run"
        )
    return Path(uri, member)
