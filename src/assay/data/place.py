"""A place of images: a path here, or a URL of an object store or a web server."""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from assay.errors import UsageError

STORES = ("s3", "gs", "az")
"""Schemes of object stores, which list what they have."""

WEB = ("https", "http")
"""Schemes of single files: a web server does not list its folders."""

SCHEMES = STORES + WEB
"""What a URL of images may begin with."""

# Two letters or more: one is a drive.
_BEGINNING = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):(?P<slashes>//?)")


@dataclass(frozen=True, repr=False)
class Url:
    """Where images, or one file, lie in a store. As text it has neither a password nor a signature."""

    whole: str
    """With the query, which may be a signature."""

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES or not self._parts[0]:
            what = ", ".join(f"{scheme}://" for scheme in SCHEMES)
            raise UsageError(f"expected a path or a URL of {what} and a bucket or host, got {str(self)!r}")

    def __str__(self) -> str:
        host, path = self._parts
        if self.scheme not in STORES:  # a key of a store may have such characters
            host, path = host.rpartition("@")[2], re.split("[?#]", path)[0]
        return f"{self.scheme}://{host}{path}"

    def __repr__(self) -> str:
        return f"Url({str(self)!r})"

    @property
    def scheme(self) -> str:
        """``s3``, ``https``…"""
        return self.whole.partition("://")[0].lower()

    @property
    def name(self) -> str:
        """The last part of its path; of a bucket its name."""
        return str(self).rstrip("/").rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """The ending of its name with the dot, as of a path; empty of a bucket or host."""
        return PurePosixPath(Url(str(self))._parts[1]).suffix

    @property
    def is_bucket(self) -> bool:
        """Whether it names no more than a bucket or a host."""
        return not self._parts[1].strip("/")

    @property
    def _parts(self) -> tuple[str, str]:
        """(bucket or host, the rest)"""
        rest = self.whole.partition("://")[2]
        host = re.split("[/?#]", rest)[0]
        return host, rest[len(host) :]


Place = Path | Url
"""Where images are."""


def is_url(text: str) -> bool:
    """Whether ``text`` is a URL rather than a path."""
    found = _BEGINNING.match(text)
    return found is not None and found["slashes"] == "//"


def place_of(text: str | Place) -> Place:
    """The place that a user named.

    Raises
    ------
    UsageError : a URL of another kind
    """
    if isinstance(text, Url):
        return text
    found = _BEGINNING.match(text := str(text))
    if found is None:
        return Path(text)
    if found["slashes"] == "//":
        return Url(text)
    if found["scheme"].lower() in SCHEMES and not Path(text).exists():
        return Url(f"{found['scheme']}://{text[found.end() :]}")  # pathlib took a slash
    return Path(text)


def whole_name(place: Place) -> str:
    """The place as it may be stored: an absolute path, or a URL without its password and its signature."""
    return str(place) if isinstance(place, Url) else str(place.resolve())


def without_secrets(word: str) -> str:
    """A word of a command as it may be stored: a URL without its password and its signature."""
    head, equals, tail = word.partition("=") if word.startswith("--") else ("", "", word)
    try:
        return f"{head}{equals}{Url(tail)}" if is_url(tail) else word
    except UsageError:
        return word
