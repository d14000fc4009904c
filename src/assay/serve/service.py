"""assay serve: a model behind HTTP, for image files and for tensors.

::

    POST /predict                     an image file, or several in a form
    GET  /v2, /v2/health/live, /v2/health/ready
    GET  /v2/models/NAME, /v2/models/NAME/ready
    POST /v2/models/NAME/infer        the Open Inference Protocol, version 2
    GET  /metrics                     for Prometheus
    GET  /openapi.json

Every request that is not understood gets a 4xx with a line that says what was expected.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from assay import __version__
from assay.errors import AssayError, MissingExtraError, UsageError
from assay.predict.batch import UNSURE, Options
from assay.predict.conformal import threshold_for
from assay.serve.image_requests import BODY, read_form, rows_of
from assay.serve.micro_batch import FullError
from assay.serve.tensors import InferRequest, answer, images_of, model_metadata
from assay.serve.work import LONGEST_NAME, Service, Work

try:
    from fastapi import FastAPI, HTTPException, Path, Query, Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse, Response
    from starlette.exceptions import HTTPException as AnyHTTPError
except ImportError as error:
    raise MissingExtraError(error.name or "fastapi", "web") from None

Confidence = Annotated[float, Query(ge=0, le=1, description="Below it an image gets no label.")]
Coverage = Annotated[
    float | None, Query(gt=0, lt=1, description="Also a set of labels, one right in this share of images.")
]
Top = Annotated[int, Query(ge=1, le=1000, description="Likeliest labels to name.")]
Name = Annotated[str, Path(max_length=LONGEST_NAME)]


def make_service(service: Service) -> FastAPI:
    """The application; who binds it beyond this machine puts a ``Guard`` before it."""
    # No documentation pages: they would load scripts from elsewhere.
    app = FastAPI(
        title="assay serve", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False
    )
    work = Work(service)
    _add_predict(app, work)
    _add_health(app)
    _add_model(app, work)

    @app.get("/metrics", response_class=Response)
    def metrics() -> Response:
        return Response(work.gauges.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.middleware("http")
    async def count(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        start, status = time.perf_counter(), 500
        try:
            with work.gauges.in_progress.track_inprogress():
                response = await call_next(request)
            status = response.status_code
        except asyncio.CancelledError:  # it took too long: the guard answers
            status = 503
            raise
        finally:
            # The address as it is declared: what strangers ask for must not make counters without end.
            path = getattr(request.scope.get("route"), "path", "other")
            work.gauges.requests.labels(path, status).inc()
            work.gauges.seconds.labels(path).observe(time.perf_counter() - start)
        return response

    app.add_exception_handler(RequestValidationError, _not_understood)
    app.add_exception_handler(AnyHTTPError, _refused)
    app.add_exception_handler(AssayError, _explained)
    app.add_exception_handler(FullError, _full)
    app.add_exception_handler(MemoryError, _short)
    return app


def _add_predict(app: FastAPI, work: Work) -> None:
    @app.post("/predict", openapi_extra=BODY)
    async def predict(
        request: Request, min_confidence: Confidence = 0.0, coverage: Coverage = None, top: Top = 1
    ) -> JSONResponse:
        least = None if coverage is None else threshold_for(coverage, work.service.runtime.thresholds)
        manner = Options(min_confidence, least)
        if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            names, files = await read_form(request)
            found = await work.predictions(names, files)
            return JSONResponse({"predictions": rows_of(found, manner, top)})
        body = await request.body()
        if not body:
            raise HTTPException(400, "expected an image file as the body, or files in a form, got nothing")
        found = await work.predictions([""], [body])
        (row,) = rows_of(found, manner, top)
        del row["file"]
        if row["status"] in ("ok", UNSURE):
            return JSONResponse(row)
        return JSONResponse({"error": f"expected an image, got one that is {row['status']}", **row}, 422)


def _add_health(app: FastAPI) -> None:
    @app.get("/v2")
    def server() -> dict[str, Any]:
        return {"name": "assay", "version": __version__, "extensions": []}

    @app.get("/v2/health/live")
    def live() -> dict[str, bool]:
        return {"live": True}

    @app.get("/v2/health/ready")
    def ready() -> dict[str, bool]:
        return {"ready": True}


def _add_model(app: FastAPI, work: Work) -> None:
    service = work.service

    def check(name: str) -> None:
        if name != service.name:
            raise HTTPException(404, f"there is no such model; this server has {service.name!r}")

    @app.get("/v2/models/{name}")
    def metadata(name: Name) -> dict[str, Any]:
        check(name)
        return model_metadata(service.runtime, service.name, service.version)

    @app.get("/v2/models/{name}/ready")
    def model_ready(name: Name) -> dict[str, Any]:
        check(name)
        return {"name": name, "ready": True}

    @app.post("/v2/models/{name}/infer")
    async def infer(name: Name, asked: InferRequest) -> JSONResponse:
        check(name)
        try:
            images = await asyncio.to_thread(images_of, asked, service.runtime.size)
        except ValueError as error:
            raise HTTPException(422, str(error)) from None
        probs = await work.probabilities([*images])
        work.gauges.images.labels("ok").inc(len(images))
        return JSONResponse(answer(asked, service.name, service.version, probs))


def _full(_: Request, __: Exception) -> JSONResponse:
    return JSONResponse({"error": "too many images wait; try again in a moment"}, 503, {"retry-after": "1"})


def _not_understood(_: Request, error: Exception) -> JSONResponse:
    # FastAPI's own answer repeats what came, which may be what JSON cannot hold, such as NaN.
    first = error.errors()[0] if isinstance(error, RequestValidationError) else {"loc": (), "msg": ""}
    where = ".".join(map(str, first["loc"]))[:100]
    return JSONResponse({"error": f"{where}: {str(first['msg'])[:200]}"}, 422)


def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, AnyHTTPError)
    return JSONResponse({"error": str(error.detail)}, error.status_code, headers=error.headers)


def _explained(_: Request, error: Exception) -> JSONResponse:
    # What a command calls --coverage is a query here.
    words = str(error).removeprefix("--")
    return JSONResponse({"error": words}, 422 if isinstance(error, UsageError) else 500)


def _short(_: Request, __: Exception) -> JSONResponse:
    words = "this machine is out of memory; send fewer or smaller images"
    return JSONResponse({"error": words}, 503, {"retry-after": "5"})
