"""A graphics processor that computes as exactly, and as repeatably, as a processor does."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def steady(device: str) -> Iterator[None]:
    """Inside, float32 is multiplied in float32, and the same work gives the same bytes; slower by a little.

    By default cuDNN rounds what it multiplies to ten binary digits (TF32), and may add in any order.

    Parameters
    ----------
    device : torch's name of its kind; of a processor nothing changes
    """
    if device == "cpu":
        yield
        return
    import torch

    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.deterministic
    cudnn.allow_tf32, cudnn.deterministic = False, True
    try:
        yield
    finally:
        cudnn.allow_tf32, cudnn.deterministic = before


def wait_for(device: str) -> None:
    """Return once the device has done what it was given; a processor always has."""
    if device != "cpu":
        import torch

        torch.cuda.synchronize()
