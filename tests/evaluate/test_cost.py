import os
import subprocess
import sys

import pytest

from assay.evaluate.cost import Cost, Stopwatch


def ticking(*times):
    """A clock that shows these times, one after the other."""
    return iter(times).__next__


def test_stages_are_timed_in_the_order_they_began():
    """Each has the seconds between its begin and its end; two visits give one number, in the first place."""
    watch = Stopwatch(clock=ticking(0.0, 1.0, 1.0, 2.0, 5.0, 7.0))
    for name in ("embed", "fit", "embed"):
        with watch.stage(name):
            pass
    assert list(watch.seconds.items()) == [("embed", 3.0), ("fit", 1.0)]


def test_a_stage_that_fails_is_timed():
    """The time of a failed stage is kept and its error goes on."""
    watch = Stopwatch(clock=ticking(0.0, 2.0))
    with pytest.raises(RuntimeError, match="no such luck"), watch.stage("fit"):
        raise RuntimeError("no such luck")
    assert watch.seconds == {"fit": 2.0}


def test_a_running_stage_is_counted_too():
    """Up to now; the seconds of earlier processes are added."""
    watch = Stopwatch(clock=ticking(0.0, 1.0, 5.0, 6.0, 8.0))
    with watch.stage("read"):
        pass
    watch.earlier = {"read": 10.0, "embed": 20.0}
    with watch.stage("fit"):
        assert watch.so_far() == {"read": 11.0, "embed": 20.0, "fit": 1.0}
    assert watch.so_far() == {"read": 11.0, "embed": 20.0, "fit": 3.0}
    assert watch.seconds == {"read": 1.0, "fit": 3.0}


def test_peak_memory_is_in_bytes_and_never_falls():
    """A process that filled 200 MB and gave them back has held those, and not a thousand times more."""
    script = (
        "from assay.evaluate.cost import peak_memory_bytes as peak\n"
        "before = peak()\n"
        "block = b'x' * 200_000_000\n"
        "del block\n"
        "print(before, peak())"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    output = subprocess.check_output([sys.executable, "-c", script], text=True, env=environment)
    before, after = map(int, output.split())
    assert 200_000_000 < after < 5_000_000_000
    assert before <= after


def test_the_plain_dict():
    """A cost is written with its units in the names."""
    assert Cost(1.5, 2_000_000, 300).to_json() == {
        "seconds": 1.5,
        "peak_memory_bytes": 2_000_000,
        "model_bytes": 300,
    }
    assert Cost(1.5, 2_000_000).to_json()["model_bytes"] is None
