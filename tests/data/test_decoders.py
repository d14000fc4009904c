"""Processes that decode: what hangs or crashes one costs an image, and nothing else changes."""

import io
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from pictures import picture, saved
from small_datasets import noise

from assay._errors import ResourceError
from assay.data import decoders as room
from assay.data.dataset import Skipped
from assay.data.decoder_messages import pack_answer, pack_request, read_answer, read_request
from assay.data.decoders import decoders
from assay.data.forms import Asked, Form, Made, make_squares
from assay.data.limits import Limits

ASKED = Asked((Form(24, "sharp"), Form(8)))
GOOD = saved(noise(0, 40, 60))

FAULTY = """
import os, time
from pathlib import Path
from assay.data import decoder_process
from assay.data.dataset import Skipped
real = decoder_process.make_squares
def faulty(data, asked):
    if data == b"hang":
        time.sleep(600)
    if data == b"crash":
        os.abort()
    if data == b"full":
        raise MemoryError
    if data == b"killed":
        os.kill(os.getpid(), 9)
    if data.startswith(b"crash once"):
        once = Path(os.fsdecode(data.split(b":")[1]))
        if not once.exists():
            once.touch()
            os.abort()
        return Skipped("second", "")
    if data == b"pid":
        print("what is printed is no answer")
        return Skipped("pid", str(os.getpid()))
    return real(data, asked)
decoder_process.make_squares = faulty
decoder_process.main()
"""
COMMAND = (sys.executable, "-P", "-c", FAULTY)


def same(one, other) -> bool:
    if isinstance(one, Skipped) or isinstance(other, Skipped):
        return one == other
    squares = zip(one.squares, other.squares, strict=True)
    return one.flags == other.flags and all(np.array_equal(*pair) for pair in squares)


@pytest.fixture
def no_help(monkeypatch):
    """The threads may not decode themselves."""

    def fail(*_):
        raise AssertionError("decoded in this process")

    monkeypatch.setattr(room, "make_squares", fail)


@pytest.mark.usefixtures("no_help")
def test_a_process_makes_what_a_thread_makes():
    """The same squares, remarks and reasons, within the same limits."""
    photo = saved(picture(), "JPEG")
    animated = saved(noise(1), "GIF", save_all=True, append_images=[noise(2)])
    files = [GOOD, photo, animated, photo[: len(photo) // 2], b"", b"no image at all"]
    lenient = Asked((Form(16),), accept_truncated=True)
    strict = Asked((Form(16),), Limits(max_pixels=100, background=(1, 2, 3)))
    with decoders(1) as make:
        for asked in (ASKED, lenient, strict):
            for data in files:
                assert same(make(data, asked), make_squares(data, asked))


@pytest.mark.usefixtures("no_help")
def test_an_image_that_hangs_is_skipped_in_time():
    """It is tried twice; those after it are decoded by a new process."""
    with decoders(1, COMMAND, limit_s=2.0) as make:
        assert make(b"hang", ASKED) == Skipped("timeout", "not decoded in 2 seconds")
        assert same(make(GOOD, ASKED), make_squares(GOOD, ASKED))


@pytest.mark.usefixtures("no_help")
def test_an_image_that_crashes_its_decoder_is_skipped(tmp_path):
    """After a second try, which another image may pass."""
    with decoders(1, COMMAND) as make:
        assert make(b"crash", ASKED) == Skipped("crash", "its decoder ended with status -6")
        assert make(b"crash once:" + os.fsencode(tmp_path / "once"), ASKED) == Skipped("second", "")
        assert same(make(GOOD, ASKED), make_squares(GOOD, ASKED))


def test_memory_that_is_full_is_no_fault_of_the_image():
    """Neither where the decoder notices nor where the system ends it; the next image is decoded."""
    with decoders(1, COMMAND) as make:
        with pytest.raises(MemoryError):
            make(b"full", ASKED)
        with pytest.raises(ResourceError, match=r"was killed from outside"):
            make(b"killed", ASKED)
        assert same(make(GOOD, ASKED), make_squares(GOOD, ASKED))


@pytest.mark.parametrize(
    "command",
    [("/no/such/python",), ("",), (sys.executable, "-c", "print('hello')"), (sys.executable, "-c", "")],
    ids=["missing", "unknown", "stranger", "silent"],
)
def test_where_no_process_can_be_had_the_threads_decode(command):
    """A program that does not greet as these very files do is not asked."""
    with decoders(1, command) as make:
        assert same(make(GOOD, ASKED), make_squares(GOOD, ASKED))


@pytest.mark.usefixtures("no_help")
def test_files_of_the_current_folder_are_not_run(tmp_path, monkeypatch):
    """Whatever they are called: the user may be among strangers' images."""
    for name in ("json.py", "numpy.py", "assay.py"):
        (tmp_path / name).write_text("raise SystemExit")
    monkeypatch.chdir(tmp_path)
    with decoders(1) as make:
        assert same(make(GOOD, ASKED), make_squares(GOOD, ASKED))


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_processes_are_gone_when_nobody_needs_them():
    """Each is started when it is needed: for one thread one is enough."""
    with decoders(3, COMMAND) as make:
        (pid,) = {int(make(b"pid", ASKED).detail) for _ in range(5)}
        assert is_there(pid)
    assert not is_there(pid)


def test_processes_end_with_the_one_that_began_them():
    """However it ends."""
    script = """
import os, sys
from assay.data.decoders import decoders
from assay.data.forms import Asked, Form
with decoders(1, sys.argv[1:]) as make:
    print(make(b"pid", Asked((Form(8),))).detail, flush=True)
    os.kill(os.getpid(), 9)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, *COMMAND], capture_output=True, text=True, check=False
    )
    assert done.returncode == -9
    deadline = time.monotonic() + 60
    while is_there(int(done.stdout)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_there(int(done.stdout))


def test_several_threads_are_served_at_once():
    """A picture that hangs keeps no other waiting."""
    with decoders(2, COMMAND, limit_s=2.0) as make, ThreadPoolExecutor(2) as pool:
        slow = pool.submit(make, b"hang", ASKED)
        for _ in range(3):
            assert same(pool.submit(make, GOOD, ASKED).result(), make_squares(GOOD, ASKED))
        assert not slow.done()
        assert slow.result().reason == "timeout"


MESSAGES = [
    Made((np.zeros((24, 24, 3), np.uint8), np.ones((8, 8, 3), np.uint8)), ("animated",)),
    Skipped("a", "ü\n"),
]


@pytest.mark.parametrize("found", MESSAGES, ids=["made", "skipped"])
def test_an_answer_that_is_cut_is_none(found):
    """Wherever it ends."""
    whole = pack_answer(found)
    assert same(read_answer(io.BytesIO(whole), ASKED), found)
    for length in {0, 1, 5, len(whole) // 2, len(whole) - 1}:
        with pytest.raises(EOFError):
            read_answer(io.BytesIO(whole[:length]), ASKED)


def test_a_request_that_is_cut_is_the_end():
    """Whoever asks is gone."""
    asked = Asked([Form(24, "sharp"), Form(8)], Limits(5, 7, (1, 2, 3)), accept_truncated=True)
    whole = pack_request(b"\n{}\n", asked)
    assert read_request(io.BytesIO(whole)) == (b"\n{}\n", asked)
    for length in {0, 1, len(whole) // 2, len(whole) - 1}:
        assert read_request(io.BytesIO(whole[:length])) is None
