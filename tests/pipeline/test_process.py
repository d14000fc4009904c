"""A function in a process of its own."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import planted_works
import psutil
import pytest

from assay.evaluate import peak_memory_bytes
from assay.notebook.process import Failure, run_apart

ENDS = {
    "refused": Failure("row 3: expected a label", 3),
    "memory": Failure("out of memory", 6),
    "torch": Failure("out of memory", 6),
    "disk": Failure("no room to write: No space left on device", 6),
    "bug": Failure("a bug in assay: KeyError: 'planted'", 1),
    "exits": Failure("its process ended without a word, with exit code 3", 1),
    "SIGKILL": Failure("its process was killed (SIGKILL), as the system does when memory runs out", 6),
    "SIGSEGV": Failure("its process died of SIGSEGV", 1),
}
"""How a child may end, and what is said of it."""


@pytest.fixture(scope="module")
def ends():
    """What is found of each of ``ENDS``; two at a time, for starting a process takes a while."""
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(ENDS, pool.map(lambda how: run_apart(planted_works.end, how), ENDS), strict=True))


@pytest.mark.slow
def test_every_end_of_a_child_has_its_words_and_its_code(ends):
    """Refusals, shortages, bugs, signals and silent exits are told apart; none ends the parent."""
    assert ends == ENDS


def test_a_child_is_another_process_and_is_heard(capfd):
    """Its id and its memory are its own; what it says and how far it is arrives; what it prints is words."""
    held = bytearray(b"1") * planted_works.HUNGER_BYTES
    assert peak_memory_bytes() > planted_works.HUNGER_BYTES
    said, steps = [], []
    found = run_apart(
        planted_works.answer, {"n": 1}, notify=said.append, progress=lambda *step: steps.append(step)
    )
    assert len(held) == planted_works.HUNGER_BYTES
    assert found["argument"] == {"n": 1}
    assert found["pid"] != os.getpid()
    assert found["memory"] < planted_works.HUNGER_BYTES
    assert (said, steps) == (["told {'n': 1}"], [("count", 1, 2)])
    out, err = capfd.readouterr()
    assert (out, err) == ("", "printed by the child\n")


def test_ctrl_c_is_the_parents_to_decide():
    """A child that Ctrl-C reaches, even while it starts, goes on until its parent ends it."""
    assert run_apart(planted_works.interrupted, 5) == {"answer": 5}


class _EnoughError(Exception):
    """Whatever may be raised in the parent while it listens."""


def test_whoever_leaves_takes_the_child_along():
    """An exception in the parent, such as Ctrl-C, ends the child before it is passed on."""
    pids = []

    def stop(line: str) -> None:
        pids.append(int(line))
        raise _EnoughError

    with pytest.raises(_EnoughError):
        run_apart(planted_works.tell_and_wait, None, notify=stop)
    assert not is_alive(pids[0])


@pytest.mark.slow
def test_a_killed_parent_takes_the_child_along(tmp_path):
    """SIGKILL leaves the parent no time to end the child: it notices, and ends itself."""
    code = (
        "import pathlib, sys, planted_works; from assay.notebook.process import run_apart\n"
        "if __name__ == '__main__': run_apart(planted_works.wait, pathlib.Path(sys.argv[1]))"
    )
    script = tmp_path / "parent.py"
    script.write_text(code)
    parent = subprocess.Popen(
        [sys.executable, script, tmp_path / "pid"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    child = int(wait_for(tmp_path / "pid", parent).read_text())
    assert is_alive(child)
    parent.send_signal(signal.SIGKILL)
    assert parent.wait() == -signal.SIGKILL
    psutil.wait_procs([psutil.Process(child)] if psutil.pid_exists(child) else [], timeout=30)
    assert not is_alive(child)


def wait_for(file, process):
    """``file``, once it is there."""
    while not file.exists():
        assert process.poll() is None
        time.sleep(0.01)
    return file


def is_alive(pid: int) -> bool:
    """Whether it still works; one whose parent has not asked yet how it ended does not."""
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
