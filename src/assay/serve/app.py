"""assay serve: a model behind HTTP, for image files and for tensors.

::

    POST /predict                     an image file, or several in a form
    GET  /v2, /v2/health/live, /v2/health/ready
    GET  /v2/models/NAME, /v2/models/NAME/ready
    POST /v2/models/NAME/infer        the Open Inference Protocol, version 2; also below /versions/V
    GET  /metrics                     for Prometheus
    GET  /openapi.json

Every request that is not understood gets a 4xx with a line that says what was expected. Worker processes
decode, and no request waits for all images of another: a hostile image costs whoever sent it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import Annotated, Any, TypeVar

import numpy as np
from PIL import Image

from assay import __version__
from assay.data.decode import DecodedImage, decode, size_in_header
from assay.data.files import Limits, Skipped
from assay.data.resize import Square
from assay.data.workers import DecoderPool
from assay.data.write import is_unicode
from assay.errors import AssayError, MissingExtraError, ResourceError, UsageError
from assay.predict.batch import UNSURE, Options, Predictions, threshold_for
from assay.predict.runtime import Runtime
from assay.serve.micro_batch import FullError, MicroBatches
from assay.serve.protocol import JSON_LENGTH, infer_body, model_metadata, read_request, response_of
from assay.types import Probs

try:
    from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Path, Query, Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse, Response
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
    from python_multipart.multipart import parse_options_header
    from starlette.datastructures import UploadFile
    from starlette.exceptions import HTTPException as AnyHTTPError
except ImportError as error:
    raise MissingExtraError(error.name or "fastapi", "web") from None

T = TypeVar("T")

LONGEST_NAME = 200
"""Of a model."""

MAX_FILES = 64
"""Images of one form."""

MAX_FORM_PIXELS = 4
"""Times the pixels of the largest image that all images of a form may have together."""

QUICK_PIXELS, QUICK_S = 1_000_000, 1.0
"""Images of so many pixels, which take 0.03 s, have processes of their own, and so much CPU time each."""

LARGE_S = 10.0
"""CPU time for a larger image; one of 25 megapixels takes a second."""

SPARE = 2
"""More processes for small images than ``workers``: images that never end do not hold all of them."""

READY_S = 5.0
"""A service that does not predict one pixel in this time is not ready."""

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
IMAGES = (1, 2, 4, 8, 16, 32)

Confidence = Annotated[float, Query(ge=0, le=1, description="Below it an image gets no label.")]
Coverage = Annotated[
    float | None, Query(gt=0, lt=1, description="Also a set of labels, one right in this share of images.")
]
Top = Annotated[int, Query(ge=1, le=1000, description="Likeliest labels to name.")]
Name = Annotated[str, Path(max_length=LONGEST_NAME)]
JsonLength = Annotated[
    str | None, Header(alias=JSON_LENGTH, description="Bytes of JSON before the bytes of the tensor.")
]

_BYTES = {"schema": {"type": "string", "format": "binary"}}
_FILES = {"type": "array", "items": _BYTES["schema"], "minItems": 1, "maxItems": MAX_FILES}
_FORM = {"type": "object", "properties": {"file": _FILES}, "required": ["file"]}

PREDICT_BODY = {
    "required": True,
    "content": {
        "image/*": _BYTES,
        "multipart/form-data": {"schema": _FORM},
    },
}
"""What POST /predict takes, for openapi.json: FastAPI does not see it."""

_ERROR = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"description": words, "content": {"application/json": {"schema": _ERROR}}}
    for status, words in {
        400: "The request cannot be read.",
        403: "It comes from another page, or asks for a WebSocket.",
        404: "There is no such address or model.",
        405: "The address has no such method.",
        408: "It took too long to arrive.",
        409: "This model has no prediction sets of that coverage.",
        413: "It is too large.",
        421: "It is for another host.",
        422: "It was read and cannot be answered.",
        500: "The model, or assay, failed.",
        503: "The service is full or not ready, or the answer took too long.",
    }.items()
}
"""What any address may answer besides 200, for openapi.json."""


@dataclass(frozen=True)
class Service:
    """What is served, and how much at once."""

    runtime: Runtime
    name: str
    """Of the model, in addresses."""
    workers: int = 2
    """Images of each lane that are decoded at once."""
    max_pixels: int = 25_000_000
    """Of one image."""
    max_waiting: int = 512
    """Images; more are answered 503."""

    def check(self) -> None:
        """Find out before the first request whether it can be answered.

        Raises
        ------
        UsageError : a name that no address can have, labels that JSON cannot hold
        ModelError : the model gives no probabilities
        """
        if self.name in (".", "..") or "/" in self.name or not 1 <= len(self.name) <= LONGEST_NAME:
            raise UsageError(
                f"--name: expected 1 to {LONGEST_NAME} letters without '/' that are not '.' or '..', "
                f"got {self.name[:LONGEST_NAME]!r}"
            )
        if not is_unicode(self.name):
            raise UsageError(f"--name: expected Unicode text, got {self.name!r}; give the model another name")
        for label in (*self.runtime.labels, *self.runtime.titles):
            if not is_unicode(label):
                raise UsageError(f"expected labels of Unicode text, got {label!r}; rename that class")
        size = self.runtime.size
        self.runtime.probabilities(np.zeros((1, size, size, 3), np.uint8))

    @property
    def version(self) -> str:
        """Tells one model from another."""
        return self.runtime.digest[:12]


def _one_pixel() -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (1, 1)).save(buffer, "PNG")
    return buffer.getvalue()


class Lane:
    """Threads, and a worker process for each, for images of one kind: those wait for no others."""

    def __init__(self, number: int, limit_s: float) -> None:
        self.number = number
        self._threads, self._processes = ThreadPoolExecutor(number, "decode"), DecoderPool(number, limit_s)

    async def map(self, function: Callable[[bytes], T | Skipped], files: list[bytes]) -> list[T | Skipped]:
        """As ``DecoderPool.map``."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._processes.map, function, files)

    def close(self) -> None:
        """End the processes, whatever they do."""
        self._processes.close()


class Work:
    """A service at work: processes that decode, a model that predicts in batches, and what both count."""

    def __init__(self, service: Service) -> None:
        self.service, self.registry = service, CollectorRegistry()
        self.requests = Counter(
            "assay_requests", "Requests that were answered.", ["path", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "assay_request_seconds",
            "From the arrival of a whole request to the beginning of its answer.",
            ["path"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.images = Counter("assay_images", "Images by their status.", ["status"], registry=self.registry)
        sizes = Histogram(
            "assay_batch_images", "Images predicted together.", buckets=IMAGES, registry=self.registry
        )
        self.in_progress = Gauge(
            "assay_requests_in_progress", "Requests being answered.", registry=self.registry
        )
        self.batches = MicroBatches(service.runtime, service.max_waiting, sizes.observe)
        workers = max(service.workers, 1)
        self.quick, self.large = Lane(workers + SPARE, QUICK_S), Lane(workers, LARGE_S)
        self.limits = Limits.of(service.max_pixels)
        self._decode = partial(decode, targets=(service.runtime.target,))
        self.one_pixel = _one_pixel()
        self.parser = ThreadPoolExecutor(1, "parse")  # one body at a time becomes lists of numbers

    async def predictions(self, names: list[str], files: list[bytes]) -> Predictions:
        """Of image files; a bad one is a row with its reason.

        Raises
        ------
        HTTPException : 413, too many pixels in all
        FullError : too many images wait already
        """
        if len(files) > 1:
            await self._check_pixels(files)
        # Few at a time, so that images of other requests come between them.
        turns = asyncio.Semaphore(max(self.service.workers, 1))

        async def decode_in_turn(data: bytes) -> DecodedImage | Skipped:
            async with turns:
                return await self.decode(data)

        found = await asyncio.gather(*map(decode_in_turn, files))
        probs = await self.probabilities([one.pixels for one in found if not isinstance(one, Skipped)])
        predicted = Predictions.of_usable(names, found, probs, self.service.runtime.labels)
        for status in predicted.statuses:
            self.images.labels(status).inc()
        return predicted

    async def decode(self, data: bytes) -> DecodedImage | Skipped:
        """One image, resized for the model."""
        limits = Limits.of(min(QUICK_PIXELS, self.service.max_pixels))
        (found,) = await self.quick.map(partial(self._decode, limits=limits), [data])
        if isinstance(found, Skipped) and found.reason == "too_many_pixels":
            (found,) = await self.large.map(partial(self._decode, limits=self.limits), [data])
        return found

    async def _check_pixels(self, files: list[bytes]) -> None:
        most = MAX_FORM_PIXELS * self.service.max_pixels
        sizes = await self.quick.map(partial(size_in_header, limits=self.limits), files)
        total = sum(size[0] * size[1] for size in sizes if isinstance(size, tuple))
        if total > most:
            raise HTTPException(413, f"form: expected at most {most:,} pixels in all images, got {total:,}")

    async def is_ready(self) -> bool:
        """Whether one pixel is decoded and predicted in time."""
        try:
            async with asyncio.timeout(READY_S):
                found = await self.decode(self.one_pixel)
                return not isinstance(found, Skipped) and len(await self.probabilities([found.pixels])) == 1
        except (TimeoutError, FullError, MemoryError, AssayError):
            return False

    def close(self) -> None:
        """End the processes, whatever images make them do."""
        self.quick.close()
        self.large.close()

    async def probabilities(self, resized_images: list[Square]) -> Probs:
        """P(class) (N, K).

        Raises
        ------
        FullError : too many images wait already
        """
        if not resized_images:
            return np.zeros((0, len(self.service.runtime.labels)), np.float32)
        return await self.batches.probabilities(resized_images)


def make_app(service: Service) -> FastAPI:
    """The application; it is served behind a ``Guard``."""
    work = Work(service)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # Its processes start now: later, a request would wait for one to start while others are idle.
        await asyncio.gather(*(work.is_ready() for _ in range(work.quick.number)))
        yield
        await asyncio.to_thread(work.close)

    # No documentation pages: they would load scripts from elsewhere.
    app = FastAPI(
        title="assay serve",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        responses=ERRORS,
    )
    _add_predict(app, work)
    _add_protocol(app, work)
    _add_metrics(app, work)
    _add_errors(app)
    return app


def _add_predict(app: FastAPI, work: Work) -> None:
    @app.post("/predict", openapi_extra={"requestBody": PREDICT_BODY})
    async def predict(
        request: Request, min_confidence: Confidence = 0.0, coverage: Coverage = None, top: Top = 1
    ) -> JSONResponse:
        least = None if coverage is None else threshold_for(coverage, work.service.runtime.thresholds)
        options = Options(min_confidence, least)
        if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            names, files = await _read_form(request)
            found = await work.predictions(names, files)
            return JSONResponse({"predictions": _rows(found, options, top)})
        body = await request.body()
        if not body:
            raise HTTPException(400, "expected an image file as the body, or files in a form, got nothing")
        found = await work.predictions([""], [body])
        (row,) = _rows(found, options, top)
        del row["file"]
        if row["status"] in ("ok", UNSURE):
            return JSONResponse(row)
        return JSONResponse({"error": f"expected an image, got one that is {row['status']}", **row}, 422)


async def _read_form(request: Request) -> tuple[list[str], list[bytes]]:
    """Names and bytes of the files of a form; HTTPException, 400, for one that cannot be read or has none."""
    _, options = parse_options_header(request.headers["content-type"])
    # The parser takes what a cut form has so far for all there was.
    if b"--" + options.get(b"boundary", b"") + b"--" not in await request.body():
        raise HTTPException(400, "form: expected the boundary that ends it, got none: it was cut off")
    try:
        form = await request.form(max_files=MAX_FILES, max_fields=MAX_FILES)
    except AnyHTTPError as error:
        raise HTTPException(400, f"form: {error.detail}") from None
    except (LookupError, ValueError) as error:  # an unknown encoding, or names that are not in it
        raise HTTPException(400, f"form: expected UTF-8, got something else ({error})") from None
    try:
        parts = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
        if not parts:
            raise HTTPException(400, "expected image files in the form, got none")
        names = [(part.filename or "").encode("utf-8", "replace").decode() for part in parts]
        return names, [await part.read() for part in parts]
    finally:
        await form.close()


def _rows(found: Predictions, options: Options, top: int) -> list[dict[str, Any]]:
    """The predictions as JSON: the columns of ``assay predict``, and the ``top`` likeliest labels."""
    plain = Options(options.min_confidence)
    columns = dict(zip(plain.columns, found.columns(plain), strict=True))
    if options.set_threshold is not None:
        columns["set"] = [list(labels) for labels in found.sets(options.set_threshold)]
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    for row, probs in zip(rows, found.probs, strict=True):
        best = np.argsort(-probs, kind="stable")[: top if row["probability"] is not None else 0]
        row["top"] = [{"label": found.labels[k], "probability": round(float(probs[k]), 4)} for k in best]
    return rows


def _add_protocol(app: FastAPI, work: Work) -> None:
    service, model = work.service, APIRouter()

    def check_name(name: Name) -> None:
        if name != service.name:
            raise HTTPException(404, f"there is no such model; this server has {service.name!r}")

    def check_version(version: Name) -> None:
        if version != service.version:
            raise HTTPException(404, f"there is no such version; this server has {service.version}")

    @app.get("/v2")
    def server() -> dict[str, Any]:
        return {"name": "assay", "version": __version__, "extensions": ["binary_tensor_data"]}

    @app.get("/v2/health/live")
    def live() -> dict[str, bool]:
        return {"live": True}

    @app.get("/v2/health/ready")
    async def ready() -> JSONResponse:
        is_ready = await work.is_ready()
        return JSONResponse({"ready": is_ready}, 200 if is_ready else 503)

    @model.get("")
    def metadata() -> dict[str, Any]:
        return model_metadata(service.runtime, service.name, service.version)

    @model.get("/ready")
    async def model_ready() -> JSONResponse:
        is_ready = await work.is_ready()
        return JSONResponse({"name": service.name, "ready": is_ready}, 200 if is_ready else 503)

    @model.post("/infer", openapi_extra={"requestBody": infer_body(service.runtime.size)})
    async def infer(request: Request, json_length: JsonLength = None) -> Response:
        body, loop = await request.body(), asyncio.get_running_loop()
        size = service.runtime.size
        try:
            asked, images, as_bytes = await loop.run_in_executor(
                work.parser, read_request, body, json_length, size
            )
        except ValueError as error:
            raise HTTPException(422, str(error)) from None
        probs = await work.probabilities([*images])
        work.images.labels("ok").inc(len(images))
        answer, headers = response_of(asked, service.name, service.version, probs, as_bytes=as_bytes)
        return Response(answer, headers=headers)

    app.include_router(model, prefix="/v2/models/{name}", dependencies=[Depends(check_name)])
    app.include_router(
        model,
        prefix="/v2/models/{name}/versions/{version}",
        dependencies=[Depends(check_name), Depends(check_version)],
    )


def _add_metrics(app: FastAPI, work: Work) -> None:
    @app.get("/metrics", response_class=Response)
    def metrics() -> Response:
        text = generate_latest(work.registry)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.middleware("http")
    async def count(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        start, status = time.perf_counter(), 500
        try:
            with work.in_progress.track_inprogress():
                response = await call_next(request)
            status = response.status_code
        except asyncio.CancelledError:  # it took too long: the guard answers
            status = 503
            raise
        finally:
            # As the address is declared: those that clients make up must not make counters without end.
            path = getattr(request.scope.get("route"), "path", "other")
            work.requests.labels(path, status).inc()
            work.seconds.labels(path).observe(time.perf_counter() - start)
        return response


def _add_errors(app: FastAPI) -> None:
    """Each error as one line of JSON."""

    def refuse(status: int, words: str, **headers: str) -> JSONResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return JSONResponse({"error": words}, status, named)

    @app.exception_handler(RequestValidationError)
    def not_understood(_: Request, error: RequestValidationError) -> JSONResponse:
        # FastAPI's own answer repeats what came, which may be what JSON cannot hold, such as NaN.
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))[:100]
        return refuse(422, f"{where}: {str(first['msg'])[:200]}")

    @app.exception_handler(AnyHTTPError)
    def refused(_: Request, error: AnyHTTPError) -> JSONResponse:
        return refuse(error.status_code, str(error.detail), **(error.headers or {}))

    @app.exception_handler(AssayError)
    def failed(_: Request, error: AssayError) -> JSONResponse:
        # The flag --coverage of a command is a query here.
        words, full = str(error).removeprefix("--"), isinstance(error, ResourceError)
        return refuse(409 if isinstance(error, UsageError) else 503 if full else 500, words)

    @app.exception_handler(FullError)
    def full(_: Request, __: FullError) -> JSONResponse:
        return refuse(503, "too many images wait; try again in a moment", retry_after="1")

    @app.exception_handler(MemoryError)
    def out_of_memory(_: Request, __: MemoryError) -> JSONResponse:
        words = "this machine is out of memory; send fewer or smaller images"
        return refuse(503, words, retry_after="5")
