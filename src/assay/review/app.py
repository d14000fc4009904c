"""The review page as a web application: addresses to what the desk does. It is served behind a guard."""

from pathlib import Path
from typing import Any

from assay.data.decision_store import Decision, Stale
from assay.data.loader import THUMBNAIL_TYPE
from assay.data.workers import WORKER_ENDED
from assay.errors import AssayError, BusyError, MissingExtraError, ResourceError, UsageError
from assay.review.exports import export
from assay.review.keys import default_keys, write_keys
from assay.review.pages import Pages
from assay.review.session import ReviewSession
from assay.review.thumbnails import SIZES, BusyThumbnailsError, Thumbnails

try:
    from fastapi import FastAPI, HTTPException, Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import HTMLResponse, JSONResponse, Response

    from assay.review.requests import DecideRequest, KeysRequest, UndoRequest
except ImportError as error:
    raise MissingExtraError(error.name or "fastapi", "web") from None

STATIC = {
    "review.js": "text/javascript; charset=utf-8",
    "review.css": "text/css; charset=utf-8",
    "icon.png": "image/png",
}

_KEEP = {"cache-control": "private, max-age=3600, immutable"}
"""For thumbnails, whose addresses name the run: the next one is there before it is asked for."""

_STATUS: dict[type[AssayError], int] = {UsageError: 422, BusyError: 503, ResourceError: 507}


def make_app(session: ReviewSession, thumbnails: Thumbnails) -> FastAPI:
    """All addresses of the page; whoever can reach it unguarded can decide, so wrap it in a ``Guard``."""
    # No documentation pages: they would load scripts from elsewhere.
    app = FastAPI(
        title="assay review", openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False
    )
    _add_pages(app, session, Pages(session))
    _add_images(app, session, thumbnails)
    _add_actions(app, session)
    _add_files(app, session)
    app.add_exception_handler(AssayError, _explain)
    app.add_exception_handler(RequestValidationError, _not_understood)
    return app


def _add_pages(app: FastAPI, session: ReviewSession, pages: Pages) -> None:
    @app.get("/", response_class=HTMLResponse)
    def first() -> str:
        session.store.refresh()
        return pages.review(_row(session, session.first()))

    @app.get("/item/{item}", response_class=HTMLResponse)
    def one(item: int) -> str:
        session.store.refresh()
        return pages.review(_row(session, item))

    @app.get("/card/{item}", response_class=HTMLResponse)
    def card(item: int) -> str:
        session.store.refresh()
        return pages.card(_row(session, item))

    @app.get("/grid/{label}", response_class=HTMLResponse)
    def grid(label: int) -> str:
        session.store.refresh()
        if not 0 <= label < len(session.run.labels):
            raise HTTPException(404, "there is no such class")
        return pages.grid(label)

    @app.get("/keys", response_class=HTMLResponse)
    def keys() -> str:
        return pages.keys()


def _add_images(app: FastAPI, session: ReviewSession, thumbnails: Thumbnails) -> None:
    @app.get("/image/{item}/{size}")
    async def image(item: int, size: str) -> Response:
        row = _row(session, item)
        if size not in SIZES:
            raise HTTPException(404, "there is no such size")
        if session.run.reasons[row] in WORKER_ENDED:  # and would end this server as it ended its decoder
            raise HTTPException(404, f"this image cannot be shown: {session.run.reasons[row]}")
        try:
            found = await thumbnails.get(row, size)
        except BusyThumbnailsError:
            raise HTTPException(503, "too many images at once", headers={"retry-after": "1"}) from None
        if not isinstance(found, bytes):
            raise HTTPException(404, f"this image cannot be shown: {found.reason}")
        return Response(found, media_type=THUMBNAIL_TYPE, headers=_KEEP)


def _add_actions(app: FastAPI, session: ReviewSession) -> None:
    @app.post("/decide")
    def decide(asked: DecideRequest) -> JSONResponse:
        rows = [_row(session, choice.item) for choice in asked.choices]
        wanted = [
            (row, choice.label, choice.revision) for row, choice in zip(rows, asked.choices, strict=True)
        ]
        done = session.decide(wanted, client=asked.client)
        results = [_outcome(row + 1, found) for row, found in zip(rows, done, strict=True)]
        # 409 if none was written; of several, each result says what became of it.
        status = 409 if all(isinstance(found, Stale) for found in done) else 200
        following = session.following(rows[-1], 1)
        return JSONResponse(
            {"results": results, "next": following[0] if following else None, **_progress(session)}, status
        )

    @app.post("/undo")
    def undo(asked: UndoRequest) -> JSONResponse:
        found = session.undo(asked.client, asked.count)
        if not found:
            return JSONResponse({"error": "This window has nothing left to undo."}, 404)
        status = 409 if all(isinstance(outcome, Stale) for _, outcome in found) else 200
        return JSONResponse({"results": [_outcome(*one) for one in found], **_progress(session)}, status)

    @app.post("/keys")
    def keys(asked: KeysRequest) -> JSONResponse:
        wanted = asked.keys or default_keys(session.run.titles)
        session.keys = write_keys(session.folder, wanted, len(session.run.labels))
        return JSONResponse({"keys": session.keys})


def _add_files(app: FastAPI, session: ReviewSession) -> None:
    @app.get("/find")
    def find(text: str = "") -> JSONResponse:
        item = session.find(text)
        return JSONResponse({"item": item}, 404 if item is None else 200)

    @app.get("/progress")
    def progress() -> JSONResponse:
        session.store.refresh()
        return JSONResponse(_progress(session))

    @app.get("/export/{name}")
    def download(name: str) -> Response:
        session.store.refresh()
        found = export(session, name)
        if found is None:
            raise HTTPException(404, "there is no such file")
        data, media_type = found
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return Response(data, media_type=media_type, headers=headers)

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in STATIC:
            raise HTTPException(404, "there is no such file")
        return Response((Path(__file__).parent / "static" / name).read_bytes(), media_type=STATIC[name])


def _row(session: ReviewSession, item: int) -> int:
    row = session.row(item)
    if row is None:
        raise HTTPException(404, "there is no such image")
    return row


def _outcome(item: int, found: Decision | Stale) -> dict[str, Any]:
    if isinstance(found, Stale):
        held = found.state.last
        now = "nobody" if held is None else (held.who or "somebody")
        return {"item": item, "stale": True, "revision": found.state.revision, "by": now}
    return {"item": item, "stale": False, "revision": found.revision}


def _progress(session: ReviewSession) -> dict[str, Any]:
    progress = session.progress()
    done = progress.decided + progress.skipped
    return {
        "done": done,
        "total": progress.total,
        "words": progress.words(),
        "estimate": progress.estimate(),
    }


def _not_understood(_: Request, error: Exception) -> JSONResponse:
    # FastAPI's own answer repeats what came, which may be what JSON cannot hold, such as NaN.
    found = error.errors()[0]["loc"] if isinstance(error, RequestValidationError) else ()
    where = ".".join(map(str, found))[:100]
    return JSONResponse({"error": f"expected what the page sends, got something else in {where!r}"}, 422)


def _explain(_: Request, error: Exception) -> JSONResponse:
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
    return JSONResponse({"error": str(error)}, status)
