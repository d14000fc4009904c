"""Model I and Model II on the features of a network without weights, and of one drawn at random."""

from dataclasses import replace

import numpy as np
import pytest
from small_tasks import small_task, squares_of

from assay.embed.backbone import FROM_ZERO_TO_ONE
from assay.embed.tiny import TinyBackbone
from assay.errors import UsageError
from assay.notebook import transfer
from assay.notebook.transfer import Head, compiled, frozen, model_1, model_2
from assay.predict.runtime import load_runtime
from assay.types import UNKNOWN

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def task(small_data, tmp_path_factory):
    return small_task(small_data, tmp_path_factory.mktemp("features"), backbone="tiny")


@pytest.fixture(scope="module")
def one(task):
    return model_1(task)


@pytest.fixture(scope="module")
def two(task):
    return model_2(task)


def test_the_head_is_the_notebooks():
    """1024, 512, dropout of 0.3, 128, with a ReLU between."""
    layers = Head()(2048, 10)
    names = [type(layer).__name__ for layer in layers]
    assert names == ["Linear", "ReLU", "Linear", "ReLU", "Dropout", "Linear", "ReLU", "Linear"]
    assert [layers[place].out_features for place in (0, 2, 5, 7)] == [1024, 512, 128, 10]
    assert layers[4].p == pytest.approx(0.3)


def test_the_settings_are_the_notebooks(task):
    """Adam at 1e-4, batches of 64, six epochs; as published the features are taken as they are."""
    network = compiled(task)
    assert (network.epochs, network.batch_size, network.learning_rate) == (6, 64, 1e-4)
    assert network.standardise
    assert not compiled(replace(task, published=True)).standardise


def test_model_1_learns_noisy_labels(one, task):
    """Trusted labels change nothing, and the features are computed once."""
    assert [epoch.stage for epoch in one.history] == ["noisy"] * 6
    assert one.model.facts["features_computed"] == 240
    blind = model_1(replace(task, dataset=replace(task.dataset, trusted=np.full(240, UNKNOWN))))
    assert blind.model.head.weights[0].tobytes() == one.model.head.weights[0].tobytes()
    assert blind.model.facts["features_computed"] == 0


def test_the_backbone_is_named(one):
    """Its name, size and where its weights came from."""
    assert (one.model.facts["backbone"], one.model.facts["size"], one.model.facts["weights"]) == (
        "tiny",
        32,
        "built in",
    )
    assert one.model.architecture == "tiny"


def test_model_2_keeps_the_labels_it_agrees_with(two, task):
    """First the trusted labels, then those and the agreed ones; how many is said."""
    assert [epoch.stage for epoch in two.history] == ["trusted"] * 6 + ["trusted and kept"] * 6
    assert 0 < two.model.facts["kept"] < two.model.facts["kept_of"] == 120


def test_the_graph_says_what_the_head_says(two, task, small_data):
    """Pixels through the graph, features through the layers: the same probabilities."""
    squares = squares_of(small_data)
    expected = two.model.probabilities(frozen(task).embed(squares))
    assert load_runtime(two.model).probabilities(squares) == pytest.approx(expected, abs=1e-4)


def test_an_unknown_backbone_is_refused_before_any_work(task):
    """The message offers names that there are."""
    with pytest.raises(UsageError, match="expected the name of a model of timm, got 'inception_v33'"):
        model_1(replace(task, backbone="inception_v33"))


def test_a_backbone_that_only_the_hub_has_needs_the_network(task):
    """Offline, the message says how to have the weights."""
    with pytest.raises(UsageError, match=r"'inception_v3' would come from the hub.*give a local file"):
        model_2(replace(task, backbone="inception_v3"))


def asked_for(monkeypatch, task):
    """What ``frozen`` asks ``load_backbone`` for."""
    asked = {}

    def load(name, _, **settings):
        asked.update(settings, name=name)
        return TinyBackbone()

    monkeypatch.setattr(transfer, "load_backbone", load)
    frozen(task)
    return asked


def test_the_backbone_as_intended(monkeypatch, task):
    """The packaged default at 128 px with its own preprocessing; a local file belongs to a named one."""
    weights = task.options.cache / "x.safetensors"
    options = replace(task.options, weights=weights)
    plain = asked_for(monkeypatch, replace(task, backbone=None, options=options))
    assert plain == {
        "name": "tf_efficientnet_lite0",
        "size": 128,
        "weights": None,
        "dtype": "float32",
        "interpolation": "bicubic",
    }
    named = asked_for(monkeypatch, replace(task, backbone="inception_v3", size=160, options=options))
    assert (named["name"], named["size"], named["weights"]) == ("inception_v3", 160, weights)


def test_the_backbone_as_published(monkeypatch, task):
    """Pixels repeated, in [0, 1], and the last map instead of means; ``tiny`` has no such choice."""
    asked = asked_for(monkeypatch, replace(task, backbone=None, published=True))
    assert (asked["features"], asked["interpolation"]) == ("map", "nearest")
    assert asked["preprocessing"] == FROM_ZERO_TO_ONE
    assert "features" not in asked_for(monkeypatch, replace(task, published=True))


@pytest.mark.slow
@pytest.mark.parametrize("published", [False, True])
def test_a_pretrained_network_works_both_ways(small_data, tmp_path, published):
    """With the packaged weights the saved graph predicts, and what was chosen is in the model."""
    trained = model_2(small_task(small_data, tmp_path, size=32, published=published))
    model = trained.model
    assert trained.model.facts["weights"] == "package"
    assert (model.features, model.interpolation) == (
        ("map", "nearest") if published else ("stages", "bicubic")
    )
    assert model.mean == ((0.0, 0.0, 0.0) if published else (0.5, 0.5, 0.5))
    assert (model.head.mean == 0).all() == published
    probs = load_runtime(model).probabilities(squares_of(small_data)[:8])
    assert probs.sum(axis=1) == pytest.approx(1, abs=1e-4)
