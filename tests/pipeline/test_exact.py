"""Figures are those of the saved model, whatever its features were computed in."""

import numpy as np
import pytest
from pictures import saved
from small_datasets import dataset_of, noise

from assay.data.resize import to_square
from assay.embed.tiny import TinyBackbone
from assay.pipeline.exact import predicts_exactly
from assay.pipeline.learn import Fitted

pytest.importorskip("torch")

from networks import random_weights  # only where torch is

from assay.embed.backbone import load_backbone
from assay.train.heads import MLPHead


@pytest.mark.slow
@pytest.mark.usefixtures("without_shape_checks")
def test_holdout_predictions_are_those_of_the_saved_model(tmp_path, monkeypatch):
    """In float32, though features were bfloat16; nothing changes for images that cannot be read."""
    monkeypatch.setattr("assay.data.loader.BATCH", 2)
    monkeypatch.setattr("assay.embed.backbone.find_weights", lambda name, _: random_weights(name))
    images = dataset_of([saved(noise(row, 40, 40)) if row != 2 else b"" for row in range(6)])
    usable = np.array([0, 1, 3, 4, 5])
    resized_images = np.stack([to_square(np.asarray(noise(row, 40, 40)), 32, "sharp") for row in usable])
    backbone = load_backbone("test_efficientnet", tmp_path, size=32, dtype="bfloat16")
    features = backbone.embed(resized_images)
    head = MLPHead(hidden=0, epochs=3).fit_soft(features, np.eye(3)[[0, 1, 2, 0, 1]]).layers_
    probs = np.full((6, 3), 1 / 3)
    probs[usable] = head.probabilities(features)
    unused = dict.fromkeys(("noise", "representative", "corrected", "prior", "unseen", "out_of_fold"))
    quick = Fitted(head=head, probs_of=lambda rows: probs[rows], **unused)
    rows = np.array([0, 2, 3, 5])
    found = predicts_exactly(quick, images, backbone, rows)
    wanted = head.probabilities(backbone.exact().embed(resized_images[[0, 2, 4]]))
    assert np.allclose(found.probs_of(np.array([0, 3, 5])), wanted, atol=1e-6)
    assert not np.allclose(quick.probs_of(np.array([0, 3, 5])), wanted, atol=1e-6)
    assert np.array_equal(found.probs_of(np.array([2])), quick.probs_of(np.array([2])))
    with pytest.raises(ValueError, match="expected rows that were predicted exactly"):
        found.probs_of(np.array([1]))
    for exact in (backbone.exact(), TinyBackbone()):  # float32 already, or no dtype
        assert predicts_exactly(quick, images, exact, rows) is quick
