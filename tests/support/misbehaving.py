"""What a worker process does with planted files, in place of decoding them."""

import os
import time
from pathlib import Path

from assay.data.decode import decode
from assay.data.files import Skipped


def behave(data: bytes) -> bytes | Skipped:
    """The file itself, or what its first word says."""
    word, _, rest = data.partition(b":")
    ways = {
        b"loop": _loop,
        b"nap": lambda: time.sleep(0.2),
        b"sleep": lambda: time.sleep(600),
        b"crash": os.abort,
        b"crash once": lambda: _crash_once(Path(os.fsdecode(rest))),
        b"full": lambda: _fail(MemoryError("planted")),
        b"bug": lambda: _fail(LookupError("planted")),
        b"killed": lambda: os.kill(os.getpid(), 9),
        b"ended": lambda: os._exit(3),
        b"pid": lambda: print("what is printed is no result") or str(os.getpid()).encode(),
    }
    return ways.get(word, lambda: None)() or data


def busy(data: bytes) -> bytes | Skipped:
    """The same, after the process has told its id."""
    Path(os.fsdecode(data.partition(b":")[2])).write_text(str(os.getpid()))
    return behave(data)


def _loop() -> None:
    while True:
        pass


def _crash_once(place: Path) -> None:
    if not place.exists():
        place.touch()
        os.abort()


def _fail(error: Exception) -> None:
    raise error


def decode_or_behave(data: bytes, **options: object) -> object:
    """Planted files do what they say, others are decoded."""
    found = behave(data)
    return found if isinstance(found, Skipped) or found is not data else decode(data, **options)
