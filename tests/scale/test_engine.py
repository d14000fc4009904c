"""Shards are mapped by processes that may die; each is done, by either engine."""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest
from mapped import Square

from assay.errors import ResourceError, UsageError
from assay.scale.engine import Engine, map_shards


def squares(function, engine, numbers=range(5)):
    return sorted((found["number"], found["square"]) for found in map_shards(function, numbers, engine))


RIGHT = [(0, 0), (1, 1), (2, 4), (3, 9), (4, 16)]


def test_each_shard_is_done_once_by_processes_with_the_threads_asked_for(tmp_path):
    """The environment of this process is afterwards as before."""
    found = list(map_shards(Square(tmp_path), range(5), Engine(workers=3, parallel=2)))
    assert sorted((one["number"], one["square"]) for one in found) == RIGHT
    assert {one["threads"] for one in found} == {3}
    assert list(map_shards(Square(tmp_path), [], Engine())) == []


def test_a_shard_whose_process_was_killed_is_given_to_another(tmp_path):
    """The others are not lost with it."""
    assert squares(Square(tmp_path, dies_once=(1, 3)), Engine(parallel=2)) == RIGHT


def test_processes_that_always_die_end_the_command(tmp_path):
    """With a hint; a shard that fails in an ordinary way ends it at once with its own error."""
    with pytest.raises(ResourceError, match="died 3 times without finishing a shard"):
        squares(Square(tmp_path, always_dies=(0,)), Engine(parallel=1))
    with pytest.raises(ResourceError, match="the disk is full"):
        squares(Square(tmp_path, fails=(2,)), Engine(parallel=1))


def test_processes_end_with_the_one_that_started_them(tmp_path):
    """Also when it was killed and could tell nobody."""
    script = """
        from pathlib import Path
        from mapped import Square
        from assay.scale.engine import Engine, map_shards

        if __name__ == "__main__":
            list(map_shards(Square(Path({place!r}), waits_s=600), range(2), Engine(parallel=2)))
    """
    file = tmp_path / "driver.py"
    file.write_text(textwrap.dedent(script.format(place=str(tmp_path))))
    driver = subprocess.Popen([sys.executable, str(file)], env=with_support())
    wait_until(lambda: len([*tmp_path.glob("tried *")]) == 2)
    children = psutil.Process(driver.pid).children(recursive=True)
    driver.kill()
    driver.wait()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive


def with_support():
    support = str(Path(__file__).parents[1] / "support")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([support, *sys.path])}


def wait_until(holds, seconds=120):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_options_of_the_other_engine_are_refused():
    """A flag without effect would be a promise."""
    with pytest.raises(UsageError, match="--address and --gpus: expected with --engine ray"):
        Engine("local", address="auto")
    with pytest.raises(UsageError, match="--address and --gpus"):
        Engine("local", gpus=1.0)
