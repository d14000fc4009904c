"""A service at work, and whether it can be."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("fastapi")

from assay.errors import UsageError
from assay.predict.runtime import load_runtime
from assay.serve.micro_batch import FullError, MicroBatches
from assay.serve.work import Service


@pytest.fixture(scope="module")
def runtime(model):
    return load_runtime(model)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"name": "a/b"}, "--name: expected 1 to 200 letters without '/'.*, got 'a/b'"),
        ({"name": ".."}, "--name: expected"),
        ({"name": "a" * 201}, "--name: expected"),
        ({"name": "caf\udce9"}, "--name: expected Unicode text"),
        ({"labels": ("a", "b", "\ud800")}, "expected labels of Unicode text"),
    ],
)
def test_what_could_never_be_answered_is_refused_at_the_start(runtime, more, words):
    """A model that no address can name, and a label that JSON cannot hold."""
    name = more.pop("name", "trees")
    with pytest.raises(UsageError, match=words):
        Service(replace(runtime, **more), name).check()
    Service(runtime, "trees").check()


@pytest.fixture
def batches(runtime):
    """The model behind micro-batches of which at most 100 images wait, and the sizes of its batches."""
    sizes: list[int] = []
    return MicroBatches(runtime, 100, sizes.append), sizes


IMAGES = np.random.default_rng(1).integers(0, 256, (90, 32, 32, 3), np.uint8)


def test_what_waits_is_answered_together(runtime, batches):
    """Twenty requests at once are a few batches, each with its own answer."""
    asked, sizes = batches

    async def ask():
        return np.concatenate(await asyncio.gather(*(asked.probabilities([image]) for image in IMAGES[:20])))

    assert asyncio.run(ask()) == pytest.approx(runtime.probabilities(IMAGES[:20]), abs=1e-6)
    assert sum(sizes) == 20
    assert len(sizes) <= 3


def test_a_request_waits_as_a_whole_or_not_at_all(batches):
    """What is refused takes no turn from those who wait."""
    asked, sizes = batches

    async def ask():
        first = asyncio.create_task(asked.probabilities(IMAGES[:50]))
        await asyncio.sleep(0)
        with pytest.raises(FullError):
            await asked.probabilities(IMAGES)
        return await first

    assert len(asyncio.run(ask())) == 50
    assert sum(sizes) == 50


def test_who_went_away_is_not_computed_for(batches):
    """A client that gave up, or was given up, costs no more."""
    asked, sizes = batches

    async def ask():
        gone = asyncio.create_task(asked.probabilities(IMAGES[:80]))
        await asyncio.sleep(0)
        gone.cancel()
        return await asked.probabilities(IMAGES[80:])

    assert len(asyncio.run(ask())) == 10
    assert sum(sizes) <= 32 + 10


def test_who_went_away_keeps_nobody_out(batches):
    """While the model is at work, images of clients that gave up are not counted among those that wait."""
    asked, _ = batches

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


def test_a_failure_reaches_all_who_wait(runtime, batches, monkeypatch):
    """Also one before the model is asked, such as a full memory; the next request is answered."""
    asked, _ = batches

    def full(_):
        raise MemoryError

    async def ask():
        with monkeypatch.context() as patch:
            patch.setattr(asked, "_heard", full)
            with pytest.raises(MemoryError):
                await asked.probabilities(IMAGES[:3])
        return await asked.probabilities(IMAGES[:3])

    assert asyncio.run(ask()) == pytest.approx(runtime.probabilities(IMAGES[:3]), abs=1e-6)
