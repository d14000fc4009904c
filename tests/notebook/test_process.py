"""A function in a process of its own."""

import json
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
    "disk": Failure("no disk space: No space left on device", 6),
    "bug": Failure("a bug in assay: KeyError: 'planted'", 1),
    "exits": Failure("its process exited without a result, with exit code 3", 1),
    "SIGKILL": Failure("its process was killed (SIGKILL), as the system does when memory runs out", 6),
    "SIGSEGV": Failure("its process died of SIGSEGV", 1),
}
"""How a child may end, and how that is reported."""


@pytest.mark.slow
def test_every_end_of_a_child_has_its_message_and_its_code():
    """Refusals, shortages, bugs, signals and silent exits are told apart; none ends the parent."""
    with ThreadPoolExecutor(2) as pool:  # starting a process takes a while
        found = dict(zip(ENDS, pool.map(lambda how: run_apart(planted_works.end, how), ENDS), strict=True))
    assert found == ENDS


def test_a_child_is_another_process_and_reports(capfd):
    """Its id and its memory are its own; its lines and its progress arrive; its prints go to stderr."""
    held = bytearray(b"1") * planted_works.HUNGER_BYTES
    assert peak_memory_bytes() > planted_works.HUNGER_BYTES
    said, steps = [], []
    ended = run_apart(
        planted_works.answer, {"n": 1}, notify=said.append, progress=lambda *step: steps.append(step)
    )
    assert (ended, len(held), steps) == (None, planted_works.HUNGER_BYTES, [("count", 1, 2)])
    found = json.loads(said[0])
    assert found["argument"] == {"n": 1}
    assert found["pid"] != os.getpid()
    assert found["memory"] < planted_works.HUNGER_BYTES
    assert capfd.readouterr() == ("", "printed by the child\n")


def test_ctrl_c_is_the_parents_to_decide():
    """A child that Ctrl-C reaches, even while it starts, goes on until its parent ends it."""
    said = []
    assert run_apart(planted_works.interrupted, 5, notify=said.append) is None
    assert said == ["went on with 5"]


def test_an_exception_in_the_parent_ends_the_child():
    """Such as Ctrl-C, before it is passed on."""
    pids = []

    def stop(line: str) -> None:
        pids.append(int(line))
        raise LookupError

    with pytest.raises(LookupError):
        run_apart(planted_works.tell_and_wait, None, notify=stop)
    assert not is_alive(pids[0])


@pytest.mark.slow
def test_a_killed_parent_takes_the_child_along(tmp_path):
    """SIGKILL leaves the parent no time to end the child, which notices and ends itself."""
    script = tmp_path / "parent.py"
    script.write_text(
        "import pathlib, sys, planted_works; from assay.notebook.process import run_apart\n"
        "if __name__ == '__main__': run_apart(planted_works.wait, pathlib.Path(sys.argv[1]))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen([sys.executable, script, tmp_path / "pid"], env=environment)
    while not (tmp_path / "pid").exists():
        assert parent.poll() is None
        time.sleep(0.01)
    child = int((tmp_path / "pid").read_text())
    assert is_alive(child)
    parent.send_signal(signal.SIGKILL)
    assert parent.wait() == -signal.SIGKILL
    psutil.wait_procs([psutil.Process(child)] if psutil.pid_exists(child) else [], timeout=30)
    assert not is_alive(child)


def is_alive(pid: int) -> bool:
    """Whether it still works: not so a zombie."""
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
