"""One core for each batch, several batches at once.

Small networks gain little from two threads in one step, and when anything else runs on the machine the
threads spin while they wait for each other: measured on two cores with a busy neighbour, 83 ms an image
with two threads in each batch, 7.5 ms with one thread in each of two. Besides, with one thread a batch
the features do not depend on the number of cores.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Inside, torch uses one thread a call, in whatever threads call it; afterwards as many as before."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def cores() -> int:
    """Cores that this process may use: fewer than the machine's in a container."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
