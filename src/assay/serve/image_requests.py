"""Requests of image files, and what is answered to them."""

from typing import Any

import numpy as np

from assay.errors import MissingExtraError
from assay.predict.batch import Options, Predictions

try:
    from fastapi import HTTPException, Request
    from python_multipart.multipart import parse_options_header
    from starlette.datastructures import UploadFile
    from starlette.exceptions import HTTPException as AnyHTTPError
except ImportError as error:
    raise MissingExtraError(error.name or "fastapi", "web") from None

MOST_FILES = 64
"""Images of one form."""

BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "image/*": {"schema": {"type": "string", "format": "binary"}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "file": {"type": "array", "items": {"type": "string", "format": "binary"}}
                    },
                }
            },
        },
    }
}
"""What POST /predict takes, for openapi.json: FastAPI does not see it."""


async def read_form(request: Request) -> tuple[list[str], list[bytes]]:
    """Names and bytes of the files of a form.

    Raises
    ------
    HTTPException : 400, a form that cannot be read, or one without files
    """
    _, options = parse_options_header(request.headers["content-type"])
    # The parser takes what a cut form has so far for all there was.
    if b"--" + options.get(b"boundary", b"") + b"--" not in await request.body():
        raise HTTPException(400, "form: expected the boundary that ends it, got none: it was cut off")
    try:
        form = await request.form(max_files=MOST_FILES, max_fields=MOST_FILES)
    except AnyHTTPError as error:
        raise HTTPException(400, f"form: {error.detail}") from None
    except (LookupError, ValueError) as error:  # names in an encoding that there is not, or are not in it
        raise HTTPException(400, f"form: expected UTF-8, got something else ({error})") from None
    try:
        parts = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
        if not parts:
            raise HTTPException(400, "expected image files in the form, got none")
        names = [(part.filename or "").encode("utf-8", "replace").decode() for part in parts]
        return names, [await part.read() for part in parts]
    finally:
        await form.close()


def rows_of(found: Predictions, manner: Options, top: int) -> list[dict[str, Any]]:
    """The predictions as JSON: the columns of ``assay predict``, and the ``top`` likeliest labels."""
    plain = Options(manner.min_confidence)
    columns = dict(zip(plain.columns, found.columns(plain), strict=True))
    if manner.set_threshold is not None:
        columns["set"] = [list(labels) for labels in found.sets(manner.set_threshold)]
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    for row, probs in zip(rows, found.probs, strict=True):
        # Nothing is likely of what is no image.
        best = np.argsort(-probs, kind="stable")[: top if row["probability"] is not None else 0]
        row["top"] = [{"label": found.labels[k], "probability": round(float(probs[k]), 4)} for k in best]
    return rows
