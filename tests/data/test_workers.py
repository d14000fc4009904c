"""Worker processes: an image that hangs or crashes one costs that image, and nothing else changes."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import psutil
import pytest
from misbehaving import behave, busy
from pictures import picture, saved

from assay.data import workers
from assay.data.decode import decode
from assay.data.files import Limits, Skipped
from assay.data.resize import TargetSize
from assay.data.workers import DecoderPool
from assay.errors import ResourceError

LONG_S = 600.0
"""No test waits for it."""


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def run_script(*command: object, **options: object) -> subprocess.CompletedProcess[str]:
    """A script in a process of its own, which finds what the tests import."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    return subprocess.run(
        [sys.executable, *command], env=env, capture_output=True, text=True, check=False, **options
    )


def wait_for(wanted: Callable[[], object]) -> None:
    """Long enough for the slowest machine; what never comes is a failure, not a test without end."""
    for _ in range(6_000):
        if wanted():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come")


@pytest.fixture(scope="module")
def pool():
    with DecoderPool(1, LONG_S) as pool:
        yield pool


def test_a_worker_decodes_what_a_thread_decodes(pool):
    """The same pixels, flags and reasons, within the same limits."""
    photo = saved(picture(), "JPEG")
    files = [saved(picture()), photo, photo[: len(photo) // 2], b"", b"no image at all"]
    lenient = partial(decode, targets=(TargetSize(24, "sharp"), TargetSize(8)), accept_truncated=True)
    strict = partial(decode, targets=(TargetSize(16),), limits=Limits(max_pixels=100, background=(1, 2, 3)))
    for make in (lenient, strict):
        for found, wanted in zip(pool.map(make, files), map(make, files), strict=True):
            assert type(found) is type(wanted)
            if isinstance(found, Skipped):
                assert found == wanted
            else:
                assert found.flags == wanted.flags
                assert [one.tobytes() for one in found.images] == [one.tobytes() for one in wanted.images]


def test_an_image_that_crashes_its_worker_is_skipped(pool, tmp_path, monkeypatch):
    """Fault 19: it is tried once more, alone; the images beside it are decoded, and no core file is left."""
    monkeypatch.chdir(tmp_path)
    crash = Skipped("crash", "its decoder ended with SIGABRT")
    assert pool.map(behave, [b"a", b"crash", b"b"]) == [b"a", crash, b"b"]
    once = b"crash once:" + os.fsencode(tmp_path / "once")
    assert pool.map(behave, [once, b"a"]) == [once, b"a"]
    assert [file.name for file in tmp_path.iterdir()] == ["once"]


@pytest.mark.parametrize(
    ("word", "limit_s", "detail"),
    [(b"loop", 0.2, "not decoded in 0.2 s of CPU time"), (b"sleep", 0.05, "not decoded in 0.5 s")],
)
def test_an_image_that_hangs_is_skipped_in_time(word, limit_s, detail):
    """Fault 18: by CPU time, or by ten times as much on the clock; the others are decoded by a new worker."""
    with DecoderPool(1, limit_s) as pool:
        assert pool.map(behave, [word]) == [Skipped("timeout", detail)]
        assert pool.map(behave, [b"a", word, b"b"]) == [b"a", Skipped("timeout", detail), b"b"]


@pytest.mark.parametrize(
    ("word", "error", "words"),
    [
        (b"full", MemoryError, "planted"),
        (b"killed", ResourceError, r"was killed from outside \(SIGKILL\), as systems do when memory is full"),
        (b"bug", LookupError, "planted"),
        (b"ended", RuntimeError, "ended with status 3"),
    ],
    ids=str,
)
def test_what_is_no_fault_of_the_image_is_raised(pool, word, error, words):
    """As it is where a thread decodes; the next image is decoded."""
    with pytest.raises(error, match=words):
        pool.map(behave, [word])
    assert pool.map(behave, [b"a"]) == [b"a"]


def test_workers_run_at_once_and_end_with_the_pool(tmp_path):
    """An image that hangs delays no other; at the end its thread is released, and no process is left."""
    place = tmp_path / "pid"
    with ThreadPoolExecutor(2) as threads:
        with DecoderPool(2, LONG_S) as pool:
            slow = threads.submit(pool.map, busy, [b"loop:" + os.fsencode(place)])
            (pid,) = pool.map(behave, [b"pid"])
            wait_for(place.exists)
            assert pool.map(behave, [b"a"]) == [b"a"]
            assert not slow.done()
        with pytest.raises(RuntimeError, match="the images are not needed any more"):
            slow.result()
    with pytest.raises(RuntimeError, match="the images are not needed any more"):
        pool.map(behave, [b"a"])
    wait_for(lambda: not lives(int(pid)) and not lives(int(place.read_text())))


def test_workers_end_after_the_process_that_started_them(tmp_path):
    """However that one ends, and whatever they do."""
    places = {word: tmp_path / word for word in ("idle", "loop")}
    told = {word: f"{word}:{place}".encode() for word, place in places.items()}
    script = f"""
import os, threading, time
from misbehaving import busy
from assay.data.workers import DecoderPool
pool = DecoderPool(2, 1.0)
for told in {[*told.values()]}:
    threading.Thread(target=pool.map, args=(busy, [told])).start()
while not all(map(os.path.exists, {[*map(str, places.values())]})):
    time.sleep(0.01)
time.sleep(0.2)
os.kill(os.getpid(), 9)
"""
    assert run_script("-c", script).returncode == -9
    wait_for(lambda: not any(lives(int(place.read_text())) for place in places.values()))


def test_a_script_without_a_guard_runs_once(tmp_path):
    """A worker neither runs the user's script again nor imports what lies in the current folder."""
    for name in ("numpy.py", "random.py", "sitecustomize.py", "multiprocessing.py"):
        (tmp_path / name).write_text("raise SystemExit(9)")
    (tmp_path / "scripts").mkdir()
    script = tmp_path / "scripts" / "unguarded.py"
    script.write_text(
        "from misbehaving import behave\n"
        "from assay.data.workers import DecoderPool\n"
        "print('once', flush=True)\n"
        "with DecoderPool(1) as pool:\n"
        "    print(pool.map(behave, [b'pid', b'a'])[1])\n"
    )
    done = run_script(script, cwd=tmp_path)
    assert (done.stdout, done.stderr, done.returncode) == ("once\nb'a'\n", "", 0)


def test_where_no_process_can_be_started_the_thread_decodes(monkeypatch):
    """As in frozen programs; but it does not try what has ended a worker before."""
    monkeypatch.setattr(workers, "_command_line", lambda **_: [sys.executable, "-c", "raise SystemExit(3)"])
    with DecoderPool(1) as pool:
        assert pool.map(behave, [b"pid"]) == [str(os.getpid()).encode()]
    monkeypatch.undo()
    with DecoderPool(1, LONG_S) as pool:
        start = workers._Worker.start
        answers = iter([True, False])
        monkeypatch.setattr(workers._Worker, "start", lambda worker: start(worker) and next(answers))
        assert pool.map(behave, [b"crash"]) == [Skipped("crash", "its decoder ended with SIGABRT")]
    monkeypatch.undo()
    monkeypatch.setattr(sys, "executable", "")
    with DecoderPool(1) as pool:
        assert pool.map(behave, [b"pid"]) == [str(os.getpid()).encode()]
