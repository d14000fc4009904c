"""One core for each head, several heads at once.

A head's steps are too small to share: two threads in one step spend their time waiting for each other,
and with anything else running on the machine a step takes ten times as long. One thread a head, and as
many heads as cores, uses the machine fully and gives the same bytes whatever the number of cores.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Inside, torch and BLAS use one thread a call; afterwards as many as before."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 1
    with threadpool_limits(1):
        if torch:
            torch.set_num_threads(1)
        try:
            yield
        finally:
            if torch:
                torch.set_num_threads(before)
