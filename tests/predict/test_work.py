"""A service at work, and whether it can be."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("fastapi")

from assay._errors import UsageError
from assay.predict.micro_batch import MicroBatches
from assay.predict.runtime import load_runtime
from assay.predict.work import Service


@pytest.fixture(scope="module")
def runtime(model):
    return load_runtime(model)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"name": "a/b"}, "--name: expected a name without '/', got 'a/b'"),
        ({"labels": ("a", "b", "\ud800")}, "expected labels of Unicode text"),
    ],
)
def test_what_could_never_be_answered_is_refused_at_the_start(runtime, more, words):
    """A model that no address can name, and a label that JSON cannot hold."""
    name = more.pop("name", "trees")
    with pytest.raises(UsageError, match=words):
        Service(replace(runtime, **more), name).check()
    Service(runtime, "trees").check()


def test_what_waits_is_answered_together(runtime):
    """Twenty images at once are a few batches, each with its own answer."""
    sizes: list[int] = []
    images = np.random.default_rng(1).integers(0, 256, (20, 32, 32, 3), np.uint8)

    async def ask():
        batches = MicroBatches(runtime, 100, sizes.append)
        found = await asyncio.gather(*map(batches.probabilities, images))
        batches.close()
        return np.stack(found)

    assert asyncio.run(ask()) == pytest.approx(runtime.probabilities(images), abs=1e-6)
    assert sum(sizes) == 20
    assert len(sizes) <= 3
