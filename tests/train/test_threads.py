import sys

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from assay.train.threads import one_thread_each


def blas_threads():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_inside_blas_uses_one_thread():
    """Inside one thread a call, afterwards what it was."""
    np.ones((2, 2)) @ np.ones((2, 2))
    before = blas_threads()
    with one_thread_each():
        assert blas_threads() == {1}
    assert blas_threads() == before


@pytest.mark.train
def test_torch_gets_its_threads_back():
    """Also when what was done inside failed."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(RuntimeError, match="inside 1"), one_thread_each():
            raise RuntimeError(f"inside {torch.get_num_threads()}")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_without_torch_none_is_loaded(monkeypatch):
    """Who has no torch in memory pays nothing for it."""
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    with one_thread_each():
        assert "torch" not in sys.modules
