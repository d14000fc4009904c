"""Images that wait while the model is at work are predicted together."""

import asyncio

import numpy as np
import pytest

from assay.predict.runtime import load_runtime
from assay.serve.micro_batch import FullError, MicroBatches


@pytest.fixture(scope="module")
def runtime(model):
    """The model, ready to predict."""
    return load_runtime(model)


@pytest.fixture
def batches(runtime):
    """The model, for which at most 100 images wait, and the sizes of its batches."""
    sizes: list[int] = []
    return MicroBatches(runtime, 100, sizes.append), sizes


IMAGES = np.random.default_rng(1).integers(0, 256, (90, 32, 32, 3), np.uint8)


def test_waiting_images_are_predicted_together(runtime, batches):
    """Twenty requests at once are a few batches, each with its own answer."""
    asked, sizes = batches

    async def ask():
        return np.concatenate(await asyncio.gather(*(asked.probabilities([image]) for image in IMAGES[:20])))

    assert asyncio.run(ask()) == pytest.approx(runtime.probabilities(IMAGES[:20]), abs=1e-6)
    assert sum(sizes) == 20
    assert len(sizes) <= 3


def test_a_request_waits_as_a_whole_or_not_at_all(batches):
    """A refused request takes no turn from those that wait."""
    asked, sizes = batches

    async def ask():
        first = asyncio.create_task(asked.probabilities(IMAGES[:50]))
        await asyncio.sleep(0)
        with pytest.raises(FullError):
            await asked.probabilities(IMAGES)
        return await first

    assert len(asyncio.run(ask())) == 50
    assert sum(sizes) == 50


def test_a_cancelled_request_is_not_computed_and_keeps_nobody_out(batches):
    """A client that gave up while the model was at work costs no more, and its images do not wait."""
    asked, sizes = batches

    async def ask():
        first = asyncio.create_task(asked.probabilities(IMAGES[:10]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        gone = asyncio.create_task(asked.probabilities(IMAGES))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        later = await asked.probabilities(IMAGES[:50])
        return len(await first), len(later)

    assert asyncio.run(ask()) == (10, 50)
    assert sum(sizes) == 60


def test_a_failure_reaches_all_waiting_requests(runtime, batches, monkeypatch):
    """Also one before the model runs, such as a full memory; the next request is answered."""
    asked, _ = batches

    def full(_):
        raise MemoryError

    async def ask():
        with monkeypatch.context() as patch:
            patch.setattr(asked, "_observe", full)
            with pytest.raises(MemoryError):
                await asked.probabilities(IMAGES[:3])
        return await asked.probabilities(IMAGES[:3])

    assert asyncio.run(ask()) == pytest.approx(runtime.probabilities(IMAGES[:3]), abs=1e-6)
