"""What fine-tuning weighs by: no image that judges has a say in it."""

import numpy as np

from assay.embed.images import Features
from assay.noise import estimate_noise
from assay.pipeline.finetune_split import split_for_finetuning
from assay.pipeline.learn import Labelled, Learned
from assay.pipeline.refine import _Evidence
from assay.types import UNKNOWN

N = 600


def bench(truth: np.ndarray, noisy: np.ndarray) -> _Evidence:
    """400 trusted images, of which 40 are watched and 40 spies."""
    trusted = np.where(np.arange(N) < 400, truth, UNKNOWN)
    features = Features((np.zeros((N, 1), dtype=np.float32),), (None,) * N, {}, {}, 0)
    fold_of = np.arange(N) % 5
    data = Labelled(features, noisy, trusted, fold_of != UNKNOWN, fold_of, tuple("abcd"), 0, 0.8)
    learned = object.__new__(Learned)  # of which the noise alone is asked
    object.__setattr__(learned, "noise", estimate_noise(noisy, trusted, 4))
    return _Evidence(data, learned, split_for_finetuning(data, []))


def test_the_transition_comes_from_images_that_judge_nothing():
    """Whatever the spies' and the watched images' pairs are."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, N)
    noisy = np.where(rng.random(N) < 0.3, (truth + 1) % 4, truth)
    before = bench(truth, noisy)
    for judges in (before.split.calibration_rows, before.split.validation):
        other = noisy.copy()
        other[judges] = (other[judges] + 2) % 4
        assert (bench(truth, other).transition == before.transition).all()
    assert (bench(truth, (noisy + 1) % 4).transition != before.transition).any()
