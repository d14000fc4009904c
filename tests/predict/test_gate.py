"""int8 is taken only if it costs next to no accuracy."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

pytest.importorskip("torch")

from assay.errors import GateError
from assay.export import gate
from assay.export.gate import Trial, quantise
from assay.predict.runtime import load_runtime


@pytest.fixture
def trial(conv_model, conv_images):
    """The images, and what the model says of them as the truth: it is always right."""
    return Trial(conv_images, load_runtime(conv_model).probabilities(conv_images).argmax(axis=1))


def attempt(model, trial, **more):
    return quantise(model, trial.images[::2], trial.images[1::2], trial, **more)


def test_the_nearest_way_is_taken(conv_model, trial, monkeypatch):
    """All four ways are compared; the one whose probabilities are nearest passes the gate."""
    monkeypatch.setattr(gate, "MOST_LOST", 0.2)
    seen = []
    found = attempt(conv_model, trial, progress=lambda *step: seen.append(step))
    *compared, taken = found.tried
    assert len(compared) == 4
    nearest = min(compared, key=lambda one: one.distance)
    assert found.how == taken.how == replace(nearest.how, shifted=True)
    assert taken.distance < nearest.distance
    assert [one.how for one in found.tried if one.lost is not None] == [found.how]
    lost = (says(conv_model, found.graph, trial.images) != trial.truth).mean()
    assert next(one.lost for one in found.tried if one.how == found.how) == pytest.approx(lost)
    assert seen == [("quantise", number, 4) for number in (1, 2, 3, 4)]


def says(model, graph, images):
    return load_runtime(replace(model, graph=graph)).probabilities(images).argmax(axis=1)


def test_first_convolutions_go_back_where_all_fail(conv_model, trial, monkeypatch):
    """What says one class of everything fails; with a convolution kept the graph is itself, and passes."""
    blind = with_bias(conv_model)
    monkeypatch.setattr(gate, "to_int8", lambda graph, _, how: graph if how.kept else blind)
    found = attempt(conv_model, trial)
    assert found.how.kept == 1
    assert found.graph == conv_model.graph
    first, second = [one.lost for one in found.tried if one.lost is not None]
    assert first == pytest.approx((trial.truth != 0).mean())
    assert first > 0.3
    assert second == 0


def test_a_gate_of_few_images_asks_others_too(conv_model, trial, monkeypatch):
    """What says the first class of everything is right of images of that class, and fails all the same."""
    blind = with_bias(conv_model)
    monkeypatch.setattr(gate, "to_int8", lambda graph, _, how: graph if how.kept else blind)
    lucky = Trial(trial.images[trial.truth == 0], trial.truth[trial.truth == 0])
    found = quantise(conv_model, trial.images[::2], trial.images[1::2], lucky)
    tried = [
        (one.how.kept, one.lost, one.same >= gate.LEAST_SAME) for one in found.tried if one.lost is not None
    ]
    assert tried == [(0, 0.0, False), (1, 0.0, True)]
    monkeypatch.setattr(gate, "FEW", 0)
    assert quantise(conv_model, trial.images[::2], trial.images[1::2], lucky).graph == blind


def with_bias(model):
    """The graph of the model when its head says the first class of everything."""
    *before, bias = model.head.weights
    sure = np.array([100, 0, 0], np.float32)
    head = replace(model.head, weights=(*before, bias + sure))
    read, last = onnx.load_from_string(model.graph), head.weights[-1]
    held = next(part for part in read.graph.initializer if np.array_equal(numpy_helper.to_array(part), bias))
    held.CopyFrom(numpy_helper.from_array(last, held.name))
    return read.SerializeToString()


def test_what_costs_too_much_is_refused(conv_model, trial, monkeypatch):
    """With the figures of all that was tried at the gate."""
    monkeypatch.setattr(gate, "MOST_LOST", -1.0)
    with pytest.raises(
        GateError,
        match=r"-100 points .* on 24 images and .* 95% of others, got .*float32: -?\d+\.\d and 100%; no",
    ):
        attempt(conv_model, trial)


@pytest.mark.parametrize("before", [180, 143, 200])
def test_half_a_point_of_two_hundred_passes(conv_model, trial, monkeypatch, before):
    """Whatever the model itself has: shares whose difference is rounded up do not decide."""
    many = Trial(np.resize(trial.images, (200, *trial.images.shape[1:])), np.zeros(200, dtype=np.int64))
    right = iter([before, before - 1])
    monkeypatch.setattr(gate, "_right", lambda *_: next(right))
    monkeypatch.setattr(gate, "to_int8", lambda graph, *_: graph)
    found = attempt(conv_model, many)
    assert [one.lost for one in found.tried if one.lost is not None] == [0.005]


def test_more_than_half_a_point_does_not_pass(conv_model, trial, monkeypatch):
    """Two of two hundred are a whole point."""
    many = Trial(np.resize(trial.images, (200, *trial.images.shape[1:])), np.zeros(200, dtype=np.int64))
    right = iter([180, *[178] * 4])
    monkeypatch.setattr(gate, "_right", lambda *_: next(right))
    monkeypatch.setattr(gate, "to_int8", lambda graph, *_: graph)
    with pytest.raises(GateError, match=r"float32: 1\.0|1\.0"):
        attempt(conv_model, many)
