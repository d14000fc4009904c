"""A model of drawn images, images to predict, and processes that decode for every service."""

from types import SimpleNamespace

import pytest
from small_models import model, new_images

from assay.data.workers import DecoderPool

__all__ = ["model", "new_images"]


@pytest.fixture(autouse=True, scope="package")
def _shared_processes():
    """Two for all services: those that tests ask without a server would start some each, and end none."""
    with DecoderPool(2) as pool, pytest.MonkeyPatch.context() as patch:
        shared = SimpleNamespace(map=pool.map, close=lambda: None)
        patch.setattr("assay.serve.app.DecoderPool", lambda *_: shared)
        yield
