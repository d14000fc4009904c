"""Images in object stores and on web servers: finding them, and reading their bytes ahead of their turn.

What cannot be had in time is a row with its reason.
"""

import asyncio
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NoAnswer
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from assay.data.dataset import Address, Listing, Skipped
from assay.data.files import IMAGE_EXTENSIONS, USUAL, Limits, check_entry, extension, raw_fault, read_named
from assay.data.place import WEB, Url, is_url
from assay.data.sources import ScanReport, is_hidden
from assay.data.stores import (
    TRIES,
    TRY_S,
    ShortBodyError,
    TooLargeError,
    fetch_to_file,
    get,
    list_objects,
    open_store,
    patiently,
    reason_of,
    words_of,
)
from assay.errors import DataError, UsageError

AHEAD, AHEAD_BYTES = 256, 256 * 2**20
"""Objects that are fetched before they are read, at most, and about their bytes."""

AT_ONCE = 32
"""Of these, so many are requested at the same time."""

SLOWEST = 100_000
"""Bytes a second that a connection must reach; each try may last as much longer."""

_USUAL_BYTES = 2**20  # of an image whose size nobody knows


def open_url(url: Url, limits: Limits = USUAL) -> Listing | Path:
    """The images below a URL; or a copy of the file that it names.

    Raises
    ------
    DataError : no such bucket, folder or file; no access; no answer
    ResourceError : no disk space for the copy
    MissingExtraError : the library of this kind of store is not installed
    UsageError : a folder of a web server
    """
    is_folder, found = url.is_bucket or str(url).endswith("/"), None
    if url.scheme in WEB and is_folder:
        raise UsageError(
            f"{url}: expected a file, as a web server does not list its folders; list the images in a "
            "manifest: a Parquet file with a column uri"
        )
    # What has an ending is a file, nearly always: then it is tried first, and needs no right to list.
    may_be_file, is_named_so = not is_folder, bool(url.suffix)
    if may_be_file and (is_named_so or url.scheme in WEB):
        found = _fetch_if_there(url)
    if found is None and url.scheme not in WEB:
        if (listing := scan_remote(url, limits)) is not None:
            return listing
        if may_be_file and not is_named_so:
            found = _fetch_if_there(url)
    if found is None:
        raise DataError(f"no such folder or file of images: {url}; check the name")
    return found


def _fetch_if_there(url: Url) -> Path | None:
    try:
        return fetch_to_file(url)
    except FileNotFoundError:
        return None


def scan_remote(url: Url, limits: Limits = USUAL) -> Listing | None:
    """All images below a URL, in natural order of their names; None if no object is there.

    A row is an object with an image's ending, and one without any ending that is not empty: what it holds is
    known when it is read. Hidden and other objects are left out and counted, as ``scan_folder`` does.
    """
    report, versions, is_empty = ScanReport(), dict[str, str](), True
    for name, n_bytes, version in list_objects(url):
        is_empty = False
        bad = check_entry(name.rstrip("/")) if name else None
        if bad is None and any(map(is_hidden, name.split("/"))):
            report.hidden += 1
            continue
        top, slash, _ = name.partition("/")
        if slash and bad is None:
            report.folders.add(top)
        if not name or name.endswith("/"):
            continue  # an object that stands for a folder
        if (ending := extension(name)) not in IMAGE_EXTENSIONS and (ending or not n_bytes):
            report.ignored[ending] += 1
            continue
        large = _too_large(repr(name), n_bytes, limits.max_bytes) if n_bytes > limits.max_bytes else None
        row = name.replace("\0", "\ufffd")  # a table with a NUL in it could not be read again
        report.add(row, bad or raw_fault(name) or large)
        versions[row] = version
    if is_empty:
        return None
    names, skipped = report.rows()
    base, in_order = f"{str(url).rstrip('/')}/", tuple(versions[name] for name in names)
    source = RemoteSource(base, names, in_order, limits.max_bytes)
    return Listing(names, source, skipped, report.notes(), tuple(sorted(report.folders)))


def remote_source(uris: Sequence[str], versions: Sequence[str], limits: Limits = USUAL) -> "RemoteSource":
    """Objects at these addresses, as ``RemoteSource.address`` gives them; an empty version is not compared.

    Parameters
    ----------
    uris : URLs, or absolute paths here
    """
    return RemoteSource("", tuple(uris), tuple(versions), limits.max_bytes)


@dataclass(frozen=True, eq=False)
class RemoteSource:
    """Reads objects, each by its own address; another process may get a pickled one and opens its own
    connections.
    """

    base: str
    """Beginning of each address."""
    names: tuple[str, ...]
    """What follows it."""
    versions: tuple[str, ...]
    """Of each when it was listed, see ``stores.version_of``; empty where that is not known."""
    max_bytes: int = USUAL.max_bytes
    timeout_s: float = TRY_S
    """Seconds that the last tries may take, on top of those that the bytes need at ``SLOWEST``."""
    _reader: "list[_Reader]" = field(default_factory=list, init=False, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteSource, (self.base, self.names, self.versions, self.max_bytes, self.timeout_s)

    def address(self, index: int) -> Address:
        """Where the bytes of image ``index`` are."""
        return Address(self.base + self.names[index], "", self.versions[index])

    def n_bytes(self, index: int) -> int | None:
        """Of image ``index`` when it was listed; None where that is not known."""
        found = self.versions[index].partition("-")[0]
        return int(found) if found.isdecimal() else None

    def read(self, index: int) -> bytes | Skipped:
        """The bytes of image ``index``, or why there are none; safe to call from threads.

        Skipped : ``missing``, ``unreadable``, ``timeout``, ``truncated_body``, ``changed``, ``too_large``; of
        a path here as ``files.open_regular``
        """
        uri, n_bytes = self.base + self.names[index], self.n_bytes(index)
        if not is_url(uri):
            return read_named(Path(uri), self.max_bytes)
        if n_bytes is not None and n_bytes > self.max_bytes:
            return _too_large(repr(str(Url(uri))), n_bytes, self.max_bytes)
        return self._of_this_process().read(index)

    def expect(self, indices: Iterable[int] | None) -> None:
        """Fetch these images ahead, in this order, while others are read; see ``ReadsAhead``."""
        wanted = indices and (
            index
            for index in indices
            if is_url(self.base + self.names[index]) and (self.n_bytes(index) or 0) <= self.max_bytes
        )
        self._of_this_process().expect(wanted)

    def _of_this_process(self) -> "_Reader":
        # A fork has neither the thread of the connections nor what it was about to fetch.
        if not self._reader or self._reader[0].pid != os.getpid():
            self._reader[:] = [_Reader(self)]
        return self._reader[0]


class _Reader:
    """The connections of a source in one process, and what it fetches ahead."""

    def __init__(self, source: RemoteSource) -> None:
        self.pid, self._source = os.getpid(), source
        self._stores: dict[str, Any] = {}
        self._lock = Lock()
        self._ahead: dict[int, Future[bytes | Skipped]] = {}
        self._ahead_bytes = 0
        self._awaited: set[Future[bytes | Skipped]] = set()
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._expected: Iterator[int] = iter(())
        self._early: set[int] = set()
        """Images that were read before their turn."""

    def expect(self, indices: Iterable[int] | None) -> None:
        with self._lock:
            for future in (*self._ahead.values(), *(self._awaited if indices is None else ())):
                future.cancel()
            self._ahead.clear()
            self._ahead_bytes = 0
            self._early.clear()
            self._expected = iter(indices or ())
            self._fill()

    def read(self, index: int) -> bytes | Skipped:
        with self._lock:
            if index in self._ahead:
                future = self._ahead.pop(index)
                self._ahead_bytes -= self._bytes(index)
            else:
                self._early.add(index)
                future = self._fetch(index, nullcontext())  # before its turn: it does not queue
            self._fill()
            self._awaited.add(future)
        try:
            # Each try ends by itself; this is for a thread of connections that is blocked.
            return future.result(AHEAD / AT_ONCE * TRIES * self._limit_s(index) + 60)
        except NoAnswer:
            future.cancel()
            return Skipped("timeout", f"{self._source.names[index]!r}: the connections of this process hang")
        finally:
            with self._lock:
                self._awaited.remove(future)

    def _fill(self) -> None:
        while len(self._ahead) < AHEAD and self._ahead_bytes < AHEAD_BYTES:
            if (index := next(self._expected, None)) is None:
                self._early.clear()
                return
            if index in self._early:
                self._early.remove(index)
            elif index not in self._ahead:
                self._ahead[index] = self._fetch(index, self._slots)
                self._ahead_bytes += self._bytes(index)

    def _fetch(self, index: int, slot: AbstractAsyncContextManager[None]) -> "Future[bytes | Skipped]":
        address = self._source.address(index)
        if (scheme := Url(address.uri).scheme) not in self._stores:
            self._stores[scheme] = open_store(scheme)
        store = self._stores[scheme]

        async def work() -> bytes | Skipped:
            async with slot:
                return await _read(store, address, self._source.max_bytes, self._limit_s(index))

        return asyncio.run_coroutine_threadsafe(work(), store.loop)

    def _bytes(self, index: int) -> int:
        n_bytes = self._source.n_bytes(index)
        return _USUAL_BYTES if n_bytes is None else n_bytes

    def _limit_s(self, index: int) -> float:
        return self._source.timeout_s + self._bytes(index) / SLOWEST


async def _read(store: Any, address: Address, max_bytes: int, limit_s: float) -> bytes | Skipped:
    """The bytes of one object, after as many tries as it takes."""
    listed, name = address.version, repr(str(Url(address.uri)))
    # A request that was lost is nearly always answered at once when it is sent again.
    limits = iter((limit_s / 4, limit_s / 2))

    async def work() -> bytes | Skipped:
        data = bytearray()
        getting = get(store, address.uri, data.extend, max_bytes)
        version = await asyncio.wait_for(getting, next(limits, limit_s))
        n_bytes, _, tag = (listed or version).partition("-")
        bytes_now, _, tag_now = version.partition("-")
        known = n_bytes.isdecimal()
        # With one tag, another number of bytes is half an answer; without tags it is another object.
        changed = tag != tag_now if tag and tag_now else known and n_bytes != bytes_now
        if changed:
            return Skipped("changed", f"{name} was {listed} when it was listed, and is {version} now")
        if known and len(data) != int(n_bytes):
            raise ShortBodyError(f"got {len(data):,} of {int(n_bytes):,} bytes")
        return bytes(data)

    try:
        return await patiently(work)
    except TooLargeError as error:
        return _too_large(name, error.args[0], max_bytes)
    except Exception as error:  # noqa: BLE001  # each store's library has errors of its own
        return Skipped(reason_of(error), f"{name}: {words_of(error)}")


def _too_large(name: str, n_bytes: int, most: int) -> Skipped:
    return Skipped("too_large", f"{name} has {n_bytes:,} bytes, the limit is {most:,}")
