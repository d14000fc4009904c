"""What a process that decodes is asked, and what it answers: a line of JSON, then bytes."""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import PIL

from assay.data.dataset import Skipped
from assay.data.forms import DecodedImage, DecodeOptions, TargetSize
from assay.data.limits import Limits

GREETING = os.fsencode(f"{Path(__file__).resolve()} numpy {np.__version__} Pillow {PIL.__version__}\n")
"""What such a process says first: with these files and packages it does what this one would."""

REAL_TIMES = 10
"""Times its limit that an image may take by the clock: a machine may have much else to do."""

NO_MEMORY = 77
"""Its exit status where memory is full."""


@runtime_checkable
class Stream(Protocol):
    """A pipe that is read from."""

    def read(self, size: int, /) -> bytes:
        """So many bytes, or what there is to the end."""
        ...

    def readline(self) -> bytes:
        """Up to the next newline, or to the end."""
        ...


def pack_request(data: bytes, asked: DecodeOptions) -> tuple[bytes, bytes]:
    """What is to be made of an image file, and its bytes."""
    head = {
        "bytes": len(data),
        "forms": asked.forms,
        "limits": asdict(asked.limits),
        "accept_truncated": asked.accept_truncated,
    }
    return _line(head), data


def read_request(stream: Stream) -> tuple[bytes, DecodeOptions] | None:
    """The next one; None if nobody asks any more."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    head = json.loads(line)
    limits = Limits(**{**head["limits"], "background": tuple(head["limits"]["background"])})
    forms = [TargetSize(size, interpolation) for size, interpolation in head["forms"]]
    data = stream.read(head["bytes"])
    return (
        (data, DecodeOptions(forms, limits, head["accept_truncated"])) if len(data) == head["bytes"] else None
    )


def pack_bug(traceback: str) -> bytes:
    """That it failed in a way that nobody has foreseen."""
    return _line({"bug": traceback})


def pack_answer(found: DecodedImage | Skipped) -> bytes:
    """What was made, or why nothing was."""
    if isinstance(found, Skipped):
        return _line({"skipped": [found.reason, found.detail]})
    return _line({"flags": found.flags}) + b"".join(square.tobytes() for square in found.squares)


def read_answer(stream: Stream, asked: DecodeOptions) -> DecodedImage | Skipped:
    """The answer to a request.

    Raises
    ------
    EOFError : it ends too early
    RuntimeError : a bug, with its traceback
    """
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    head = json.loads(line)
    if "bug" in head:
        raise RuntimeError(f"a process that decodes images failed:\n{head['bug']}")
    if "skipped" in head:
        return Skipped(*head["skipped"])
    squares = tuple(_square(stream, form.size) for form in asked.forms)
    return DecodedImage(squares, tuple(map(sys.intern, head["flags"])))


def _square(stream: Stream, size: int) -> np.ndarray:
    data = stream.read(size * size * 3)
    if len(data) < size * size * 3:
        raise EOFError
    return np.frombuffer(data, np.uint8).reshape(size, size, 3)


def _line(head: dict[str, Any]) -> bytes:
    return json.dumps(head).encode() + b"\n"
