"""Processes that decode: what hangs or crashes one costs an image, and nothing else changes."""

import io
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from pictures import picture, saved
from small_datasets import noise

from assay.data import decoders as room
from assay.data.dataset import Skipped
from assay.data.decoder_messages import pack_answer, pack_request, read_answer, read_request
from assay.data.decoders import decoders
from assay.data.forms import DecodedImage, DecodeOptions, TargetSize, make_squares
from assay.data.limits import Limits
from assay.errors import ResourceError

ASKED = DecodeOptions((TargetSize(24, "sharp"), TargetSize(8)))
GOOD = saved(noise(0, 40, 60))

FAULTY = """
import json, os, sys, time
sys.path[:] = json.loads(sys.argv[2])
from pathlib import Path
from assay.data import decoder_process
from assay.data.dataset import Skipped
real = decoder_process.make_squares

def crash_once(place):
    if not place.exists():
        place.touch()
        os.abort()
    return Skipped("second")

def loop():
    while True:
        pass

def write():
    os.write(1, b"what is printed is no answer")
    print("neither is this")
    return Skipped("pid", str(os.getpid()))

def fail(error):
    raise error

WAYS = {
    b"loop": loop,
    b"sleep": lambda: time.sleep(600),
    b"crash": os.abort,
    b"full": lambda: fail(MemoryError()),
    b"bug": lambda: fail(LookupError("planted")),
    b"killed": lambda: os.kill(os.getpid(), 9),
    b"ended": lambda: os._exit(3),
    b"pid": write,
}

def faulty(data, asked):
    if data.startswith(b"crash once"):
        return crash_once(Path(os.fsdecode(data.split(b":")[1])))
    return WAYS[data]() if data in WAYS else real(data, asked)

decoder_process.make_squares = faulty
decoder_process.main(float(sys.argv[1]))
"""
LONG_S = 600.0
"""No test waits for it."""


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
    lenient = DecodeOptions((TargetSize(16),), accept_truncated=True)
    strict = DecodeOptions((TargetSize(16),), Limits(max_pixels=100, background=(1, 2, 3)))
    with decoders(1) as make:
        for asked in (ASKED, lenient, strict):
            for data in files:
                assert same(make(data, asked), make_squares(data, asked))


@pytest.mark.usefixtures("no_help")
@pytest.mark.parametrize(
    ("way", "limit_s", "words"),
    [(b"loop", 0.5, "0.5 seconds of the processor"), (b"sleep", 0.2, "2 seconds, twice")],
)
def test_an_image_that_hangs_is_skipped_in_time(way, limit_s, words):
    """By the processor's time, or twice by the clock; those after it are decoded by a new process."""
    with decoders(1, limit_s, FAULTY) as make:
        assert make(way, ASKED) == Skipped("timeout", f"not decoded in {words}")
        assert same(make(GOOD, ASKED), make_squares(GOOD, ASKED))


@pytest.mark.usefixtures("no_help")
def test_an_image_that_crashes_its_decoder_is_skipped(tmp_path):
    """After a second try, which another image may pass."""
    with decoders(1, LONG_S, FAULTY) as make:
        assert make(b"crash", ASKED) == Skipped("crash", "its decoder ended with SIGABRT")
        assert make(b"crash once:" + os.fsencode(tmp_path / "once"), ASKED) == Skipped("second")
        assert same(make(GOOD, ASKED), make_squares(GOOD, ASKED))
    assert not list(Path.cwd().glob("core*"))


@pytest.mark.usefixtures("no_help")
def test_what_has_crashed_a_process_is_not_tried_by_a_thread(monkeypatch):
    """Not even where no other process can be started then; those after it are."""
    with decoders(1, LONG_S, FAULTY) as make:
        make(GOOD, ASKED)
        with monkeypatch.context() as patch:
            patch.setattr(room._Decoder, "_start", lambda _: None)
            assert make(b"crash", ASKED).reason == "crash"
        assert same(make(GOOD, ASKED), make_squares(GOOD, ASKED))


@pytest.mark.parametrize(
    ("way", "error", "words"),
    [
        (b"full", MemoryError, "no memory left"),
        (b"killed", ResourceError, r"was ended from outside \(SIGKILL\), as systems do when memory is full"),
        (b"bug", RuntimeError, r"(?s)failed:.*LookupError: planted"),
        (b"ended", RuntimeError, "ended with status 3"),
    ],
    ids=str,
)
def test_what_is_no_fault_of_the_image_is_raised(way, error, words):
    """As it is where a thread decodes; the next image is decoded."""
    with decoders(1, LONG_S, FAULTY) as make:
        with pytest.raises(error, match=words):
            make(way, ASKED)
        assert same(make(GOOD, ASKED), make_squares(GOOD, ASKED))


@pytest.mark.parametrize("begin", ["print('hello')", "import time; print('a' * 5000)", ""])
def test_a_program_that_does_not_greet_is_not_asked(begin):
    """The threads decode."""
    with decoders(1, LONG_S, begin) as make:
        assert same(make(GOOD, ASKED), make_squares(GOOD, ASKED))


@pytest.mark.parametrize("python", ["", "/no/such/python"])
def test_where_there_is_no_python_to_start_the_threads_decode(monkeypatch, python):
    """As in programs that bring their own."""
    monkeypatch.setattr(sys, "executable", python)
    with decoders(1) as make:
        assert same(make(GOOD, ASKED), make_squares(GOOD, ASKED))


@pytest.mark.usefixtures("no_help")
def test_files_of_the_current_folder_are_not_run(tmp_path, monkeypatch):
    """Whatever they are called: the user may be among strangers' images."""
    for name in ("json.py", "numpy.py", "assay.py", "sitecustomize.py"):
        (tmp_path / name).write_text("raise SystemExit")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    with decoders(1) as make:
        assert same(make(GOOD, ASKED), make_squares(GOOD, ASKED))


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for(wanted: Callable[[], bool]) -> None:
    """Long enough for the slowest machine; what never comes is a failure, not a test without end."""
    for _ in range(6_000):
        if wanted():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come")


def test_processes_are_gone_when_nobody_needs_them():
    """Each is started when it is needed: for one thread one is enough."""
    with decoders(3, LONG_S, FAULTY) as make:
        (pid,) = {int(make(b"pid", ASKED).detail) for _ in range(5)}
        assert lives(pid)
    assert not lives(pid)
    with pytest.raises(RuntimeError, match="not wanted any more"):
        make(GOOD, ASKED)


def test_nobody_waits_for_an_image_that_hangs_when_it_is_over():
    """The thread that asked gets no answer, and the process is gone."""
    with ThreadPoolExecutor(1) as pool:
        with decoders(1, LONG_S, FAULTY) as make:
            pid = int(make(b"pid", ASKED).detail)
            slow = pool.submit(make, b"loop", ASKED)
            wait_for(lambda: psutil.Process(pid).cpu_times().user > 0.5)
        with pytest.raises(RuntimeError, match="not wanted any more"):
            slow.result()
    assert not lives(pid)


def test_what_is_closed_while_a_process_starts_is_not_decoded_by_the_thread(monkeypatch):
    """The thread would be waited for, whatever the image is."""
    greeted = room._has_greeted

    def closing(process):
        decoder.close()
        return greeted(process)

    monkeypatch.setattr(room, "_has_greeted", closing)
    decoder = room._Decoder([sys.executable, "-c", ""], LONG_S, possible=True)
    with pytest.raises(RuntimeError, match="not wanted any more"):
        decoder.make(GOOD, ASKED)
    assert decoder.process is None


@pytest.mark.parametrize("way", [b"", b"loop"], ids=["idle", "hanging"])
def test_processes_end_after_the_one_that_began_them(way):
    """However that one ends, and whatever they do."""
    script = f"""
import os, sys, threading, time
import psutil
from assay.data.decoders import decoders
from assay.data.forms import Asked, Form
with decoders(1, 2.0, sys.argv[1]) as make:
    asked = Asked((Form(8),))
    pid = int(make(b"pid", asked).detail)
    print(pid, flush=True)
    if {way!r}:
        before = psutil.Process(pid).cpu_times().user
        threading.Thread(target=make, args=({way!r}, asked)).start()
        while psutil.Process(pid).cpu_times().user < before + 0.2:
            time.sleep(0.01)
    os.kill(os.getpid(), 9)
"""
    command = [sys.executable, "-c", script, FAULTY]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -9
    wait_for(lambda: not lives(int(done.stdout)))


def test_several_threads_are_served_at_once():
    """A picture that hangs keeps no other waiting."""
    with ThreadPoolExecutor(2) as pool, decoders(2, LONG_S, FAULTY) as make:
        slow = pool.submit(make, b"loop", ASKED)
        for _ in range(3):
            assert same(pool.submit(make, GOOD, ASKED).result(), make_squares(GOOD, ASKED))
        assert not slow.done()


MESSAGES = [
    DecodedImage((np.zeros((24, 24, 3), np.uint8), np.ones((8, 8, 3), np.uint8)), ("animated",)),
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
    asked = DecodeOptions(
        [TargetSize(24, "sharp"), TargetSize(8)], Limits(5, 7, (1, 2, 3)), accept_truncated=True
    )
    whole = b"".join(pack_request(b"\n{}\n", asked))
    assert read_request(io.BytesIO(whole)) == (b"\n{}\n", asked)
    for length in {0, 1, len(whole) // 2, len(whole) - 1}:
        assert read_request(io.BytesIO(whole[:length])) is None
