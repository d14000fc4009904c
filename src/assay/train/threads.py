"""One core for each head, several heads at once; see ``embed.threads`` for why."""

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

from assay.embed.threads import one_torch_thread


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Inside, torch and BLAS use one thread a call; afterwards as many as before."""
    with threadpool_limits(1), one_torch_thread():
        yield
