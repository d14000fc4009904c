"""map_shards: a function of a shard's number, applied to many shards by processes of this machine or by Ray.

A function writes its result to a file and returns a few facts. It must not mind being called twice: a shard
whose process died is given to another one.
"""

import json
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import active_children, get_context, parent_process
from typing import Any, Literal

from assay.embed.device import cores
from assay.errors import MissingExtraError, ResourceError, UsageError

Facts = dict[str, Any]
"""What a function returns; plain JSON."""

MOST_DEATHS = 3
"""Processes that may die before a shard is done, without one of them being finished in between."""

OBJECT_STORE_BYTES = 200 * 2**20
"""Of a Ray that is started here: shards are files, so hardly anything goes through it."""


@dataclass(frozen=True)
class Engine:
    """What does the work, and how much of a machine each process gets."""

    name: Literal["local", "ray"] = "local"
    workers: int = 2
    """CPU cores of each process."""
    gpus: float = 0.0
    """GPUs of each process, for Ray alone."""
    parallel: int | None = None
    """Processes at the same time; None for as many as there are cores for."""
    address: str | None = None
    """Of a Ray cluster, such as ``auto``; None starts one on this machine, for this call alone."""

    def __post_init__(self) -> None:
        if self.name == "local" and (self.address is not None or self.gpus):
            raise UsageError("--address and --gpus: expected with --engine ray, got local")
        if self.parallel is not None and self.parallel < 1:
            raise UsageError(f"--parallel: expected 1 or more, got {self.parallel}")


LOCAL = Engine()


def map_shards(
    function: Callable[[int], Facts], shards: Sequence[int], engine: Engine = LOCAL
) -> Iterator[Facts]:
    """The facts of each shard, in the order in which they are done.

    Parameters
    ----------
    function : of a module, or an object of its classes, that other processes can be sent

    Raises
    ------
    ResourceError : processes die again and again
    """
    if not shards:
        return iter(())
    return (_map_ray if engine.name == "ray" else _map_local)(function, shards, engine)


def _map_local(function: Callable[[int], Facts], shards: Sequence[int], engine: Engine) -> Iterator[Facts]:
    number = min(engine.parallel or max(cores() // engine.workers, 1), len(shards))
    left, deaths = list(shards), 0
    while left:
        # Spawned: a fork would copy the threads' locks, and torch does not survive it.
        with _threads(engine.workers):
            others = {*active_children()}
            pool = ProcessPoolExecutor(number, get_context("spawn"), initializer=_end_with_parent)
            try:
                waiting = {pool.submit(function, shard): shard for shard in left}
                while waiting:
                    for done in wait(waiting, return_when=FIRST_COMPLETED).done:
                        facts = done.result()
                        left.remove(waiting.pop(done))
                        deaths = 0
                        yield facts
            except BrokenProcessPool as error:
                deaths += 1
                if deaths == MOST_DEATHS:
                    raise ResourceError(
                        f"processes that embed died {deaths} times without finishing a shard; if memory is "
                        "short, use fewer with --parallel"
                    ) from error
            finally:
                # After Ctrl-C or an error nobody waits for half a shard: the next command does it again.
                for process in {*active_children()} - others:
                    process.kill()
                pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Inside, processes that start have this many threads: the variable that BLAS, torch and Ray go by."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(number)
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def _end_with_parent() -> None:
    """In a process of a pool: end when the parent does, even if that was killed."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


# --- Ray -----------------------------------------------------------------------------------------------


def _map_ray(function: Callable[[int], Facts], shards: Sequence[int], engine: Engine) -> Iterator[Facts]:
    # Before the import, which reads it: nothing is reported to anybody.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
        import ray.data
    except ImportError:
        raise MissingExtraError("ray", "ray") from None

    class Actor:
        """One process of a cluster, which loads its network with its first shard."""

        def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
            return {"facts": [json.dumps(function(int(shard))) for shard in batch["item"]]}

    ours = not ray.is_initialized()
    before = signal.getsignal(signal.SIGTERM)
    if ours:
        starts = engine.address is None  # a cluster that runs has its own settings
        ray.init(
            address=engine.address,
            include_dashboard=False if starts else None,
            object_store_memory=OBJECT_STORE_BYTES if starts else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    try:
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        ray.data.DataContext.get_current().enable_progress_bars = False
        total = int(ray.cluster_resources().get("CPU", 1))  # type: ignore[no-untyped-call]  # ray's
        number = min(engine.parallel or max(total // engine.workers, 1), len(shards))
        found = ray.data.from_items(list(shards), override_num_blocks=len(shards)).map_batches(
            Actor,
            batch_size=1,
            num_cpus=engine.workers,
            num_gpus=engine.gpus or None,
            compute=ray.data.ActorPoolStrategy(size=number),
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(engine.workers)}},
        )
        for row in found.iter_rows():
            yield json.loads(row["facts"])
    finally:
        if ours:
            ray.shutdown()
            # Ray leaves its own handler, and processes forked later may not end when they are told to.
            if signal.getsignal(signal.SIGTERM) is not before:
                signal.signal(signal.SIGTERM, before)
