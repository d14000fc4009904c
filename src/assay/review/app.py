"""The review page as a web application: its addresses, its thumbnails and its server."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from assay.data.dataset import ImageSource, Skipped
from assay.data.decisions import Decision, Stale
from assay.data.files import USUAL, Limits
from assay.data.loader import THUMBNAIL_TYPE, draw_thumbnail
from assay.data.workers import WORKER_ENDED
from assay.errors import AssayError, BusyError, MissingExtraError, ResourceError, UsageError
from assay.review.pages import FILES, export, page_renderer
from assay.review.session import ReviewSession
from assay.types import UNKNOWN
from assay.web.listen import Listener, answer_until_interrupted
from assay.web.middleware import Guard

try:
    from fastapi import FastAPI, HTTPException, Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import HTMLResponse, JSONResponse, Response
    from pydantic import BaseModel, ConfigDict, Field
except ImportError as error:
    raise MissingExtraError(error.name or "fastapi", "web") from None

SIZES: Mapping[str, int] = MappingProxyType({"small": 160, "large": 1024})
"""Longest side of a thumbnail in pixels; a smaller image keeps its size."""

STATIC = {
    "review.js": "text/javascript; charset=utf-8",
    "review.css": "text/css; charset=utf-8",
    "icon.png": "image/png",
}

MAX_CHOICES = 100
"""Images in one request."""

MAX_CLASSES = 2**20
"""Bounds a request; whether a class exists is checked where the run is known."""

_STATUS: dict[type[AssayError], int] = {UsageError: 422, BusyError: 503, ResourceError: 507}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


Client = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")]


class Choice(_Strict):
    """A class for one image."""

    item: Annotated[int, Field(ge=1, le=2**40)]
    label: Annotated[int, Field(ge=UNKNOWN, le=MAX_CLASSES)] | None
    """None skips the image, UNKNOWN says that it belongs to no class."""
    revision: Annotated[int, Field(ge=0, le=2**40)]
    """The one that the person saw."""


class DecideRequest(_Strict):
    """Choices of one window."""

    client: Client
    choices: Annotated[list[Choice], Field(min_length=1, max_length=MAX_CHOICES)]


class UndoRequest(_Strict):
    """Undo the latest decisions of a window."""

    client: Client
    count: Annotated[int, Field(ge=1, le=MAX_CHOICES)] = 1


class KeysRequest(_Strict):
    """Action or class -> its key."""

    keys: Annotated[
        dict[Annotated[str, Field(max_length=40)], Annotated[str, Field(max_length=8)]],
        Field(max_length=MAX_CLASSES),
    ]


@dataclass
class Thumbnails:
    """Draws two thumbnails at a time, lets a bounded number wait, and keeps the latest in memory."""

    images: ImageSource
    limits: Limits = USUAL
    max_waiting: int = 200
    """Requests that may wait; further ones are refused at once."""
    memory_bytes: int = 64 * 1024 * 1024
    """Of the encoded thumbnails that are kept."""
    _kept: "OrderedDict[tuple[int, str], bytes]" = field(default_factory=OrderedDict)
    _kept_bytes: int = 0
    _running: dict[tuple[int, str], "asyncio.Future[bytes | Skipped]"] = field(default_factory=dict)
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(2, "thumbnail"))

    async def get(self, row: int, size: str) -> bytes | Skipped:
        """One image as WebP, or why it cannot be shown; BusyError if too many are waiting."""
        key = row, size
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        if key not in self._running:
            if len(self._running) >= self.max_waiting:
                raise BusyError("too many images at once; try again in a moment")
            drawing = asyncio.get_running_loop().run_in_executor(
                self._pool, draw_thumbnail, self.images, row, SIZES[size], self.limits
            )
            self._running[key] = drawing
            drawing.add_done_callback(lambda done: self._keep(key, done))
        # Shielded: a client that disconnects must not cancel it for others.
        return await asyncio.shield(self._running[key])

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _keep(self, key: tuple[int, str], done: "asyncio.Future[bytes | Skipped]") -> None:
        self._running.pop(key, None)
        # Runs in the loop, so that no lock is needed; whoever waits gets the error.
        found = None if done.cancelled() or done.exception() is not None else done.result()
        if not isinstance(found, bytes):  # a file that cannot be read may come back
            return
        self._kept[key] = found
        self._kept_bytes += len(found)
        while self._kept_bytes > self.memory_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= len(oldest)


def make_app(session: ReviewSession, thumbnails: Thumbnails) -> FastAPI:
    """All addresses of the page. Whoever reaches it can decide, so it is served behind a ``Guard``."""
    # No documentation pages: they would load scripts from other servers.
    app = FastAPI(
        title="assay review", openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False
    )
    _add_pages(app, session)
    _add_files(app, session, thumbnails)
    _add_actions(app, session)
    app.add_exception_handler(AssayError, _explain)
    app.add_exception_handler(RequestValidationError, _refuse)
    return app


def serve(
    session: ReviewSession,
    listener: Listener,
    *,
    token: str,
    hosts: tuple[str, ...] = (),
    ready: Callable[[], None],
) -> None:
    """Answer requests until the process is interrupted.

    Parameters
    ----------
    listener : closed at the end
    hosts : names of this machine besides loopback
    ready : called once requests are answered
    """
    thumbnails = Thumbnails(session.run.images, session.run.reading.limits)
    app = Guard(make_app(session, thumbnails), port=listener.getsockname()[1], token=token, hosts=hosts)
    try:
        answer_until_interrupted(app, listener, ready=ready)
    finally:
        thumbnails.close()


def _add_pages(app: FastAPI, session: ReviewSession) -> None:
    render = page_renderer(session)

    # Each page first reads what other processes decided.
    @app.get("/", response_class=HTMLResponse)
    def first() -> str:
        session.store.refresh()
        return one(session.first())

    @app.get("/item/{item}", response_class=HTMLResponse)
    def one(item: int) -> str:
        session.store.refresh()
        card = session.card(_row(session, item))
        return render("review.html", card=card, progress=session.progress())

    @app.get("/card/{item}", response_class=HTMLResponse)
    def card(item: int) -> str:  # what differs between images; the script fetches the next one ahead
        session.store.refresh()
        return render("card.html", card=session.card(_row(session, item)))

    @app.get("/grid/{label}", response_class=HTMLResponse)
    def grid(label: int) -> str:
        session.store.refresh()
        if not 0 <= label < len(session.run.labels):
            raise HTTPException(404, "no such class")
        cards, counts = session.grid(label)
        return render("grid.html", cards=cards, counts=counts, label=label, progress=session.progress())

    @app.get("/keys", response_class=HTMLResponse)
    def keys() -> str:
        return render("keys.html", progress=session.progress())


def _add_files(app: FastAPI, session: ReviewSession, thumbnails: Thumbnails) -> None:
    @app.get("/image/{item}/{size}")
    async def image(item: int, size: str) -> Response:
        row = _row(session, item)
        if size not in SIZES:
            raise HTTPException(404, "no such size")
        if session.run.reasons[row] in WORKER_ENDED:  # it ended its decoder, and would end this server
            raise HTTPException(404, f"this image cannot be shown: {session.run.reasons[row]}")
        found = await thumbnails.get(row, size)
        if not isinstance(found, bytes):
            raise HTTPException(404, f"this image cannot be shown: {found.reason}")
        # The address names the run, so the browser may keep it: the next one is fetched ahead.
        headers = {"cache-control": "private, max-age=3600, immutable"}
        return Response(found, media_type=THUMBNAIL_TYPE, headers=headers)

    @app.get("/export/{name}")
    def download(name: str) -> Response:
        if name not in FILES:
            raise HTTPException(404, "no such file")
        session.store.refresh()
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return Response(export(session, name), media_type=FILES[name], headers=headers)

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in STATIC:  # a list, so that no name can lead out of the folder
            raise HTTPException(404, "no such file")
        return Response((Path(__file__).parent / "static" / name).read_bytes(), media_type=STATIC[name])


def _add_actions(app: FastAPI, session: ReviewSession) -> None:
    @app.post("/decide")
    def decide(request: DecideRequest) -> JSONResponse:
        rows = [_row(session, choice.item) for choice in request.choices]
        choices = [(row, one.label, one.revision) for row, one in zip(rows, request.choices, strict=True)]
        done = session.decide(choices, client=request.client)
        results = [_outcome(row + 1, found) for row, found in zip(rows, done, strict=True)]
        # 409 if none was written; of several, each result has its own outcome.
        status = 409 if all(isinstance(found, Stale) for found in done) else 200
        following = session.next_after(rows[-1])
        return JSONResponse({"results": results, "next": following, **_progress(session)}, status)

    @app.post("/undo")
    def undo(request: UndoRequest) -> JSONResponse:
        found = session.undo(request.client, request.count)
        if not found:
            return JSONResponse({"error": "No decisions of this window are left to undo."}, 404)
        status = 409 if all(isinstance(outcome, Stale) for _, outcome in found) else 200
        return JSONResponse({"results": [_outcome(*one) for one in found], **_progress(session)}, status)

    @app.post("/keys")
    def keys(request: KeysRequest) -> JSONResponse:
        session.save_keys(request.keys)
        return JSONResponse({"keys": session.keys})

    @app.get("/find")
    def find(text: str = "") -> JSONResponse:
        item = session.find(text)
        return JSONResponse({"item": item}, 404 if item is None else 200)

    @app.get("/progress")
    def progress() -> JSONResponse:
        session.store.refresh()
        return JSONResponse(_progress(session))


def _row(session: ReviewSession, item: int) -> int:
    if not 1 <= item <= len(session.run):
        raise HTTPException(404, "no such image")
    return item - 1


def _outcome(item: int, found: Decision | Stale) -> dict[str, Any]:
    if isinstance(found, Stale):
        last = found.state.last
        by = "nobody" if last is None else (last.who or "somebody")
        return {"item": item, "stale": True, "revision": found.state.revision, "by": by}
    return {"item": item, "stale": False, "revision": found.revision}


def _progress(session: ReviewSession) -> dict[str, Any]:
    progress = session.progress()
    return {
        "done": progress.decided + progress.skipped,
        "total": progress.total,
        "summary": progress.summary(),
        "estimate": progress.estimate(),
    }


def _refuse(_: Request, error: Exception) -> JSONResponse:
    # FastAPI's own answer repeats the request, which may hold what JSON cannot, such as NaN.
    found = error.errors()[0]["loc"] if isinstance(error, RequestValidationError) else ()
    where = ".".join(map(str, found))[:100]
    return JSONResponse({"error": f"unexpected value of {where!r}: expected a request of this page"}, 422)


def _explain(_: Request, error: Exception) -> JSONResponse:
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
    return JSONResponse({"error": str(error)}, status, {"retry-after": "1"} if status == 503 else None)
