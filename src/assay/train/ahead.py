"""Work that is begun before its result is asked for."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from assay.embed.device import cores

Result = TypeVar("Result")


def ahead(jobs: Iterable[Callable[[], Result]], depth: int) -> Generator[Callable[[], Result], None, None]:
    """For each job, in order, what gives its result when called; ``depth`` of them are under way by then.

    Parameters
    ----------
    depth : with 0 nothing is begun, and who calls does the work
    """
    if not depth:
        yield from jobs
        return
    with ThreadPoolExecutor(min(cores(), depth), "ahead") as pool:
        waiting = deque[Callable[[], Result]]()
        for job in jobs:
            waiting.append(pool.submit(job).result)
            if len(waiting) > depth:
                yield waiting.popleft()
        yield from waiting
