"""Finding the image that a path in a table names.

A path may begin at the table's folder, at the images, or at the images' own folder name, or be the whole path
of an image; inside an archive whose members share one folder, that folder may be left out. Names are compared
exactly, then by NFC.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from assay.data.dataset import Listing
from assay.data.formats import IMAGE_EXTENSIONS, extension
from assay.data.tables import shown
from assay.errors import DataError

_ARCHIVE_ENDING = re.compile(r"\.(zip|tar|t[gbx]z|tar\.\w+)\Z", re.IGNORECASE)


@dataclass(frozen=True)
class Match:
    """The image that a path names."""

    image: int
    """Index into the listing."""
    exact: bool
    """False if the names are equal only after Unicode normalisation."""


@dataclass(frozen=True)
class Finder:
    """The images of a listing by name; ``find`` opens nothing."""

    listing: Listing
    names: frozenset[str]
    composed: Mapping[str, tuple[int, ...]]
    """Indices of the names that have this NFC form."""
    routes: tuple[tuple[str, str], ...]
    """(beginning to take off, beginning to put on), in the order of preference."""
    whole: tuple[str, ...] = ()
    """The absolute path of the folder of images, with a final ``/``, as it was given and resolved."""

    def below(self, entry: str) -> str:
        """``entry`` as it is, or from the images on if it is the whole path of something there."""
        return next((entry[len(whole) :] for whole in self.whole if entry.startswith(whole)), entry)

    def find(self, entry: str) -> Match | None:
        """The image that ``entry`` names, or None.

        Raises
        ------
        DataError : ``ambiguous_name``: two images differ only in their Unicode form
        """
        candidates = list(self._candidates(entry))
        equal = next((name for name in candidates if name in self.names), None)
        forms = [unicodedata.normalize("NFC", name) for name in (candidates if equal is None else [equal])]
        twins = next((self.composed[form] for form in forms if form in self.composed), ())
        if len(twins) > 1:
            both = " and ".join(ascii(self.listing.names[twin]) for twin in twins[:2])
            raise DataError(
                f"ambiguous_name: {shown(entry)} may be {both}, which differ only in their Unicode form; "
                "rename one of the two files"
            )
        return Match(twins[0], exact=equal is not None) if twins else None

    def lookalikes(self, entries: Iterable[str]) -> list[tuple[str, str]]:
        """(entry, name of an image) where the two differ only in case or in the ending: nobody can know."""
        alike: dict[str, str] = {}
        for name in self.listing.names:
            alike.setdefault(_plain(name), name)
        found = []
        for entry in entries:
            forms = map(_plain, self._candidates(self.below(entry)))
            near = next((alike[form] for form in forms if form in alike), None)
            found += [(entry, near)] if near is not None else []
        return found

    def _candidates(self, entry: str) -> Iterator[str]:
        clean = "/".join(part for part in re.split(r"[\\/]", entry) if part not in ("", "."))
        for form in dict.fromkeys((entry, clean)):
            for off, on in self.routes:
                if form.startswith(off):
                    yield on + form[len(off) :]


def _plain(name: str) -> str:
    form = unicodedata.normalize("NFC", name).casefold()
    ending = extension(form)
    return form.removesuffix(ending) if ending in IMAGE_EXTENSIONS else form


def make_finder(listing: Listing, images: Path, table: Path) -> Finder:
    """A finder for the paths of ``table``, which may be relative to its folder or to ``images``."""
    composed: dict[str, tuple[int, ...]] = {}
    for image, name in enumerate(listing.names):
        form = unicodedata.normalize("NFC", name)
        composed[form] = (*composed.get(form, ()), image)
    routes = tuple(dict.fromkeys(_routes(listing, images, table)))
    places = (images.absolute(), images.resolve()) if images.is_dir() else ()
    whole = tuple(dict.fromkeys(place.as_posix() + "/" for place in places))
    return Finder(listing, frozenset(listing.names), composed, routes, whole)


def _routes(listing: Listing, images: Path, table: Path) -> Iterator[tuple[str, str]]:
    root, folder = images.resolve(), table.resolve().parent
    if root.is_dir() and root.is_relative_to(folder):
        yield _beginning(root.relative_to(folder)), ""
    if root.is_dir() and folder.is_relative_to(root):
        yield "", _beginning(folder.relative_to(root))
    yield "", ""
    yield _ARCHIVE_ENDING.sub("", root.name) + "/", ""
    common = {name.partition("/")[0] for name in listing.names}
    if not root.is_dir() and len(common) == 1 and all("/" in name for name in listing.names):
        yield "", common.pop() + "/"


def _beginning(folder: Path) -> str:
    text = folder.as_posix()
    return "" if text == "." else text + "/"
