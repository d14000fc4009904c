"""Object stores and web servers: the bytes of one object, and the names of many, in bounded time.

Everything goes through fsspec, whose libraries find credentials by their own means: the environment,
profiles, the role of the machine. A request that fails in passing is tried again. gs:// and az:// are
untested: no test reaches such a store.
"""

import asyncio
import atexit
import os
import re
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from assay.data.place import WEB, Url
from assay.errors import DataError, MissingExtraError, ResourceError, UsageError

TRIES = 4
TRY_S = 20.0
"""Seconds for an answer."""

PAUSE_S = 0.25
"""Before the second try; each further pause is twice as long."""

CONNECTIONS = 64
"""To one store, at most."""

_PAGES = 30  # times TRY_S: the limit of a listing that comes as a whole
_CHUNK, _PART = 2**20, 2**24  # bytes
_CREDENTIALS = {
    "s3": "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; for a public bucket "
    "FSSPEC_S3_ANON=true",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS, or give gcloud auth application-default login",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME, with AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN",
}
# Each library has errors of its own, which are known by the names of their classes without importing it.
_DENIED = re.compile(r"Credential|ProfileNotFound|Token|Unauthorized|Forbidden|Permission")
_LATE = re.compile(r"Timeout")
_CUT_SHORT = re.compile(r"Payload|Incomplete|Streaming|Checksum")

Found = TypeVar("Found")


class ShortBodyError(OSError):
    """Fewer bytes than the store announced."""


class TooLargeError(Exception):
    """More bytes than are wanted; its argument is how many there are. It ends a download."""


class Object(NamedTuple):
    """One object of a listing."""

    name: str
    """Below the folder that was listed."""
    n_bytes: int
    version: str
    """See ``version_of``."""


def version_of(n_bytes: int, tag: str | None) -> str:
    """What differs once the bytes do: their number and the store's ETag, ``1234-d41d8c``."""
    return f"{n_bytes}-{(tag or '').removeprefix('W/').strip(chr(34))}"


def open_store(scheme: str) -> Any:
    """The file system of ``scheme`` that fsspec has, with its own connections.

    Raises
    ------
    MissingExtraError : its library is not installed
    UsageError : ``ASSAY_OFFLINE=1`` forbids it
    DataError : it refuses to begin, such as without credentials
    """
    if os.environ.get("ASSAY_OFFLINE") == "1":
        raise UsageError(f"{scheme}:// needs a network, and ASSAY_OFFLINE=1 forbids it; unset it")
    options: dict[str, Any] = {}
    if scheme == "s3":
        # botocore's own tries would come on top of ours; and it opens ten connections.
        config = {"retries": {"total_max_attempts": 1}, "max_pool_connections": CONNECTIONS}
        options = {"max_concurrency": 1, "config_kwargs": config}
    try:
        import fsspec.asyn

        # Cached listings would hide a change.
        store = fsspec.filesystem(scheme, skip_instance_cache=True, use_listings_cache=False, **options)
    except ImportError as error:
        package = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs"}.get(scheme, "fsspec with aiohttp")
        raise MissingExtraError(package, "cloud") from error
    except Exception as error:
        raise refused(Url(f"{scheme}://…"), error) from error
    if scheme == "s3":
        store.retries = 1
    if scheme in WEB:  # of several first requests each would open a session
        fsspec.asyn.sync(store.loop, store.set_session)
    return store


async def get(store: Any, uri: str, write: Callable[[bytes], object], most: int) -> str:
    """Write the bytes of an object as they come, and return its version.

    Raises
    ------
    TooLargeError : more than ``most`` bytes; they are not downloaded
    """
    scheme = Url(uri).scheme
    if scheme == "s3":
        bucket, key, _ = store.split_path(uri)
        found = await store._call_s3("get_object", Bucket=bucket, Key=key)
        body, n_bytes = found["Body"], found["ContentLength"]
        try:
            _check_size(n_bytes, most)
            while chunk := await body.read(_CHUNK):
                write(chunk)
        finally:
            body.close()
        return version_of(n_bytes, found.get("ETag"))
    if scheme in WEB:
        return await _get_web(store, uri, write, most)
    found = await asyncio.wait_for(store._info(uri), TRY_S)
    _check_size(n_bytes := int(found["size"]), most)
    for start in range(0, n_bytes, _PART):
        end = min(start + _PART, n_bytes)
        write(await asyncio.wait_for(store._cat_file(uri, start=start, end=end), _PAGES * TRY_S))
    return version_of(n_bytes, found.get("ETag") or found.get("etag"))


async def _get_web(store: Any, uri: str, write: Callable[[bytes], object], most: int) -> str:
    import aiohttp

    session = await store.set_session()
    # Of a large file the whole may take hours; silence may not.
    quiet = aiohttp.ClientTimeout(total=None, sock_connect=TRY_S, sock_read=TRY_S)
    plain = {"Accept-Encoding": "identity"}  # packed, the bytes would have another number than announced
    async with session.get(store.encode_url(uri), headers=plain, timeout=quiet) as response:
        response.raise_for_status()
        announced = None if "Content-Encoding" in response.headers else response.content_length
        _check_size(announced or 0, most)
        n_bytes = 0
        async for chunk in response.content.iter_chunked(_CHUNK):
            _check_size(n_bytes := n_bytes + len(chunk), most)
            write(chunk)
        return version_of(n_bytes if announced is None else announced, response.headers.get("ETag"))


def _check_size(n_bytes: int, most: int) -> None:
    if n_bytes > most:
        raise TooLargeError(n_bytes)


def list_objects(url: Url) -> Iterator[Object]:
    """Every object below ``url``; DataError if it cannot be listed."""
    store = open_store(url.scheme)
    bucket, _, prefix = f"{str(url).rstrip('/')}/".partition("://")[2].partition("/")

    def call(work: Callable[[], Awaitable[Found]], limit_s: float) -> Found:
        try:
            return wait_for(store, lambda: asyncio.wait_for(work(), limit_s))
        except Exception as error:
            raise refused(url, error) from error

    if url.scheme == "s3":
        more: dict[str, str] = {}
        while True:  # page by page: fsspec would keep a dict of each object
            query = {"Bucket": bucket, "Prefix": prefix, **more}
            page = call(partial(store._call_s3, "list_objects_v2", **query), TRY_S)
            for one in page.get("Contents", ()):
                yield Object(one["Key"][len(prefix) :], one["Size"], version_of(one["Size"], one["ETag"]))
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}
    found = call(partial(store._find, f"{bucket}/{prefix}", detail=True), _PAGES * TRY_S)
    for path, one in found.items():
        n_bytes, tag = int(one["size"] or 0), one.get("etag") or one.get("ETag")
        yield Object(path.partition("/")[2][len(prefix) :], n_bytes, version_of(n_bytes, tag))


def fetch_to_file(url: Url) -> Path:
    """A copy of one object under its own name in a temporary folder, which is deleted as the process ends.

    Raises
    ------
    FileNotFoundError : no such object
    DataError : no access, no answer
    ResourceError : it does not fit on the disk
    """
    folder = Path(tempfile.mkdtemp(prefix="assay-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path, store = folder / (re.sub(r"[\0/\\:]", "_", url.name) or "file"), open_store(url.scheme)
    most = shutil.disk_usage(folder).free

    async def work() -> None:
        with path.open("wb") as file:  # each try begins anew
            version = await get(store, url.whole, file.write, most)
        announced, n_bytes = int(version.partition("-")[0]), path.stat().st_size
        if n_bytes != announced:
            raise ShortBodyError(f"got {n_bytes:,} of {announced:,} bytes")

    try:
        wait_for(store, work)
    except TooLargeError as error:
        raise ResourceError(
            f"{url}: expected disk space for {error.args[0]:,} bytes in {tempfile.gettempdir()}, got "
            f"{most:,}; set TMPDIR to a larger disk"
        ) from error
    except Exception as error:
        if reason_of(error) == "missing":
            raise FileNotFoundError(str(url)) from error
        raise refused(url, error) from error
    return path


# --- tries ---------------------------------------------------------------------------------------------


def wait_for(store: Any, work: Callable[[], Awaitable[Found]]) -> Found:
    """The result of ``work`` after as many tries as it takes; it runs in fsspec's thread of connections."""
    found: Future[Found] = asyncio.run_coroutine_threadsafe(patiently(work), store.loop)
    try:
        return found.result()
    except BaseException:  # Ctrl-C
        found.cancel()
        raise


async def patiently(work: Callable[[], Awaitable[Found]]) -> Found:
    """The result of ``work``, tried again after errors that may pass; else the last error."""
    for attempt in range(1, TRIES):
        try:
            return await work()
        except Exception as error:
            if not _may_pass(error):
                raise
            await asyncio.sleep(PAUSE_S * 2 ** (attempt - 1))
    return await work()


def _may_pass(error: BaseException) -> bool:
    """Whether the next try may succeed: no answer, half an answer, a busy server; not a refusal."""
    status = _status(error)
    if isinstance(error, TooLargeError) or _is_denied(error) or reason_of(error) == "missing":
        return False
    return status is None or status in (408, 425, 429) or status >= 500


# --- errors --------------------------------------------------------------------------------------------


def reason_of(error: BaseException) -> str:
    """Why an object cannot be had: ``missing``, ``truncated_body``, ``timeout`` or ``unreadable``."""
    if _status(error) in (404, 410) or isinstance(error, FileNotFoundError):
        return "missing"
    if isinstance(error, ShortBodyError) or _CUT_SHORT.search(_kinds(error)):
        return "truncated_body"
    return "timeout" if isinstance(error, TimeoutError) or _LATE.search(_kinds(error)) else "unreadable"


def words_of(error: BaseException) -> str:
    """An error in one line, without the query of a URL, which may be a signature."""
    text = next(iter(str(_cause(error)).splitlines()), "")
    if isinstance(error, TimeoutError) and not text:
        return f"no answer in time, {TRIES} times"
    if (status := getattr(_cause(error), "status", None)) is not None:  # its text has the whole URL
        return f"status {status}"
    return re.sub(r"\?[^\s\"']*", "", text)[:200] or type(error).__name__


def refused(url: Url, error: BaseException) -> DataError:
    """The error of a place that cannot be listed or fetched, with what to do about it."""
    what, words = f"cannot read {url}", words_of(error)
    if reason_of(error) == "missing":
        return DataError(f"{what}: no such bucket or folder; check the name")
    if _is_denied(error):
        advice = _CREDENTIALS.get(url.scheme, "its signature may have expired")
        return DataError(f"{what}: access denied ({words}); {advice}")
    endpoint = " and AWS_ENDPOINT_URL" if url.scheme == "s3" else ""
    return DataError(f"{what}: {words}; check the network{endpoint}, and run it again")


def _is_denied(error: BaseException) -> bool:
    return _status(error) in (401, 403) or bool(_DENIED.search(_kinds(error)))


def _status(error: BaseException) -> int | None:
    """The HTTP status of an answer that is an error."""
    cause = _cause(error)
    found, response = getattr(cause, "status", None), getattr(cause, "response", None)
    if isinstance(response, dict):  # botocore's
        found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return found if isinstance(found, int) else None


def _kinds(error: BaseException) -> str:
    """Names of the classes of an error and of its cause."""
    kinds = (*type(error).__mro__, *type(_cause(error)).__mro__)
    return " ".join(kind.__name__ for kind in kinds)


def _cause(error: BaseException) -> BaseException:
    """The first error of a chain, the store's own, around which libraries put others."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
