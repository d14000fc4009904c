"""Networks of listed layers, trained with Keras' defaults, and saved as heads."""

import sys

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from assay.errors import MissingExtraError, UsageError
from assay.notebook.networks import Cnn, Head, SequentialClassifier
from assay.types import UNKNOWN

pytestmark = pytest.mark.train


class Small(BaseEstimator):
    """A hidden layer, and whatever layers come before it."""

    def __init__(self, hidden=16, dropout=0.0, norm=False):
        self.hidden = hidden
        self.dropout = dropout
        self.norm = norm

    def __call__(self, n_features, n_classes):
        from torch import nn

        return nn.Sequential(
            *([nn.BatchNorm1d(n_features)] if self.norm else []),
            nn.Linear(n_features, self.hidden),
            nn.ReLU(),
            nn.Dropout(self.dropout),
            nn.Linear(self.hidden, n_classes),
        )


FAST = SequentialClassifier(Small(), epochs=20, learning_rate=0.01, standardise=True)


@pytest.mark.usefixtures("without_shape_checks")
@parametrize_with_checks([FAST])
def test_it_keeps_scikit_learns_contract(estimator, check):
    """Each of scikit-learn's own checks of an estimator passes."""
    check(estimator)


@pytest.fixture(scope="module")
def clouds():
    """(X, labels): 300 rows of four features in three classes."""
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=300)
    return (rng.normal(size=(300, 4)) + 2 * np.eye(3, 4)[labels]).astype(np.float32), labels


def bytes_of(classifier):
    return [part.numpy().tobytes() for part in classifier.network_.state_dict().values()]


def test_the_same_seed_gives_the_same_bytes(clouds):
    """Weights, batches and dropout come from random_state alone, and the global generator is left alone."""
    import torch

    before = torch.get_rng_state()
    network = clone(FAST).set_params(build__dropout=0.3, epochs=2)
    first = clone(network).fit(*clouds)
    torch.manual_seed(5)
    moved = torch.get_rng_state()
    second = clone(network).fit(*clouds)
    assert bytes_of(first) == bytes_of(second)
    assert torch.equal(torch.get_rng_state(), moved)
    torch.set_rng_state(before)
    assert bytes_of(network.set_params(random_state=1).fit(*clouds)) != bytes_of(first)


def test_weights_start_as_keras_starts_them():
    """Glorot-uniform: within ±√(6 / (inputs + outputs)), counted over a convolution's places; biases 0."""
    import torch
    from torch import nn

    from assay.notebook.training import build_network

    def build(n_features, n_classes):
        return nn.Sequential(
            nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.Flatten(), nn.Linear(n_features, n_classes)
        )

    convolution, norm, _, dense = build_network(build, 500, 10, seed=0)
    for layer, limit in ((convolution, (6 / (35 * 9)) ** 0.5), (dense, (6 / 510) ** 0.5)):
        weight = layer.weight.detach()
        assert 0.95 * limit < weight.abs().max() <= limit
        assert weight.std() == pytest.approx(limit / 3**0.5, rel=0.1)
        assert not layer.bias.any()
    assert torch.equal(norm.weight, torch.ones(32))
    assert torch.equal(norm.running_var, torch.ones(32))


def test_one_step_is_adams(clouds):
    """A single batch moves each weight by the learning rate, against the sign of its gradient."""
    import torch
    from torch.nn import functional

    from assay.notebook.training import build_network

    X, labels = clouds
    network = SequentialClassifier(Small(), epochs=1, batch_size=300, learning_rate=0.01)
    fitted = network.fit(X, labels)
    seed = np.random.RandomState(0).randint(2**31 - 1)
    start = build_network(Small(), 4, 3, seed)
    loss = functional.cross_entropy(start(torch.from_numpy(X)), torch.from_numpy(labels))
    gradient = torch.autograd.grad(loss, start[0].weight)[0]
    moved = fitted.network_[0].weight.detach() - start[0].weight.detach()
    clear = gradient.abs() > 1e-4
    assert moved[clear].numpy() == pytest.approx((-0.01 * gradient.sign())[clear].numpy(), abs=1e-4)
    assert fitted.history_[0].loss == pytest.approx(loss.item(), rel=1e-5)


def test_the_history_is_what_was_seen(clouds):
    """One entry an epoch, numbered from 1, and the progress of all; the loss falls, accuracy is a share."""
    steps = []
    history = clone(FAST).fit(*clouds, progress=lambda *step: steps.append(step)).history_
    assert [(epoch.stage, epoch.epoch) for epoch in history] == [("train", n) for n in range(1, 21)]
    assert history[-1].loss < history[0].loss
    assert 0 < history[0].accuracy < history[-1].accuracy <= 1
    assert (history[-1].accuracy * 300) == pytest.approx(round(history[-1].accuracy * 300))
    assert all(epoch.seconds > 0 for epoch in history)
    assert steps[-1] == ("train", 6_000, 6_000)
    assert steps == sorted(steps)


def test_only_the_rows_named_are_learned_from(clouds):
    """Other rows and their labels change nothing; they need not have a label."""
    X, labels = clouds
    rows = np.arange(0, 300, 2)
    alone = clone(FAST).fit(X[rows], labels[rows])
    others = np.where(np.arange(300) % 2, UNKNOWN, labels)
    noise = X + 100 * (np.arange(300) % 2)[:, None].astype(np.float32)
    named = clone(FAST).fit(noise, others, rows)
    assert bytes_of(alone) == bytes_of(named)
    assert named.classes_.tolist() == [0, 1, 2]
    assert (named.mean_ == alone.mean_).all()


def test_half_precision_rows_are_read_a_batch_at_a_time(clouds, tmp_path):
    """A memory map of float16 gives what the same numbers give as float32."""
    X, labels = clouds
    half = X.astype(np.float16)
    half.tofile(tmp_path / "rows")
    mapped = np.memmap(tmp_path / "rows", np.float16, "r", shape=half.shape)
    network = SequentialClassifier(Small(), epochs=2)
    assert bytes_of(clone(network).fit(mapped, labels)) == bytes_of(
        clone(network).fit(half.astype(np.float32), labels)
    )


def test_classes_without_a_row_have_a_place(clouds):
    """With ``classes`` the outputs are those of all classes, and a class never met is not predicted."""
    X, labels = clouds
    fitted = clone(FAST).fit(X, labels, classes=np.arange(5))
    assert fitted.predict_proba(X).shape == (300, 5)
    assert set(fitted.predict(X)) <= {0, 1, 2}
    with pytest.raises(ValueError, match=r"y: expected labels among \[0, 1\], got others too"):
        clone(FAST).fit(X, labels, classes=[0, 1])


def test_dropout_is_at_work_while_learning_only(clouds):
    """Two predictions agree, and dropout changed what was learned."""
    dropped = clone(FAST).set_params(build__dropout=0.5).fit(*clouds)
    assert (dropped.decision_scores(clouds[0]) == dropped.decision_scores(clouds[0])).all()
    assert bytes_of(dropped) != bytes_of(clone(FAST).fit(*clouds))
    assert dropped.score(*clouds) > 0.8


def test_bfloat16_learns_as_well(clouds):
    """Products in bfloat16 change digits, not the result; the weights stay float32."""
    fitted = clone(FAST).set_params(dtype="bfloat16").fit(*clouds)
    assert abs(fitted.score(*clouds) - clone(FAST).fit(*clouds).score(*clouds)) < 0.03
    assert {str(part.dtype) for part in fitted.network_.parameters()} == {"torch.float32"}
    assert clone(FAST).set_params(dtype="auto").fit(*clouds).score(*clouds) > 0.8


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("epochs", 0, ValueError, "epochs: expected 1 or more, got 0"),
        ("batch_size", 0, ValueError, "batch_size: expected 1 or more, got 0"),
        ("learning_rate", -1.0, ValueError, r"learning_rate: expected 0 or more, got -1\.0"),
        ("dtype", "float8", UsageError, "dtype: expected auto, float32, bfloat16, got 'float8'"),
    ],
)
def test_a_parameter_that_cannot_be_is_named(clouds, name, value, error, message):
    """The error comes at fit, as scikit-learn wants it, and says what was expected."""
    with pytest.raises(error, match=message):
        clone(FAST).set_params(**{name: value}).fit(*clouds)


def test_a_layer_that_cannot_be_started_is_named(clouds):
    """Weights that nothing would fill are refused, not trained from what lay in memory."""
    from torch import nn

    def build(n_features, n_classes):
        return nn.Sequential(nn.Linear(n_features, n_classes), nn.LayerNorm(n_classes))

    with pytest.raises(ValueError, match="expected Linear, Conv2d and batch norms, got weights of LayerNorm"):
        SequentialClassifier(build).fit(*clouds)


def test_without_torch_the_install_line_is_told(clouds, monkeypatch):
    """A missing extra is named with its install line."""
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "assay.notebook.training", raising=False)
    with pytest.raises(MissingExtraError, match=r"this needs torch, .* pip install '\.\[train\]'"):
        clone(FAST).fit(*clouds)


def test_a_lone_last_row_joins_a_batch_where_there_is_a_batch_norm(clouds):
    """Alone it has no statistics; without a batch norm it stays a batch."""
    import torch

    from assay.notebook.training import batches

    X, labels = clouds
    fitted = clone(FAST).set_params(build=Small(norm=True)).fit(X[:33], labels[:33])
    assert fitted.score(X, labels) > 0.5
    generator = torch.Generator()
    lengths = [[len(rows) for rows in batches(65, 32, generator, together)] for together in (True, False)]
    assert lengths == [[32, 33], [32, 32, 1]]


def test_the_layers_are_the_notebooks():
    """CNN 1 has three convolutions and two pools; CNN 2 a batch norm more; the head three hidden layers."""
    plain, normed, head = Cnn()(3072, 10), Cnn(batch_norm=True)(3072, 10), Head()(2048, 10)
    names = [type(layer).__name__ for layer in plain]
    convolutions = ["Conv2d", "MaxPool2d", "ReLU", "Conv2d", "MaxPool2d", "ReLU", "Conv2d", "ReLU"]
    assert names == ["Pixels", *convolutions, "Flatten", "Linear", "ReLU", "Linear"]
    assert [type(layer).__name__ for layer in normed] == [*names[:10], "BatchNorm1d", *names[10:]]
    assert sum(part.numel() for part in plain.parameters()) == 896 + 18_496 + 36_928 + 262_208 + 650
    assert (normed[10].momentum, normed[10].eps) == (pytest.approx(1 - 0.99), pytest.approx(1e-3))
    names = [type(layer).__name__ for layer in head]
    assert names == ["Linear", "ReLU", "Linear", "ReLU", "Dropout", "Linear", "ReLU", "Linear"]
    assert [head[place].out_features for place in (0, 2, 5, 7)] == [1024, 512, 128, 10]
    assert head[4].p == pytest.approx(0.3)


def test_the_pool_may_come_before_the_relu():
    """Both orders give the same numbers and the same gradients."""
    import torch
    from torch import nn
    from torch.nn import functional

    maps = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    found = []
    for layers in (nn.Sequential(nn.MaxPool2d(2), nn.ReLU()), nn.Sequential(nn.ReLU(), nn.MaxPool2d(2))):
        out = layers(maps)
        found.append((out, torch.autograd.grad(functional.softplus(out).sum(), maps)[0]))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


def test_dense_layers_become_a_head(clouds):
    """It predicts what torch predicts: with a batch norm or without, after features are standardised."""
    import torch

    from assay.notebook.training import dense_layers

    X = clouds[0]
    mean, scale = np.arange(4, dtype=np.float32), np.linspace(0.5, 2, 4, dtype=np.float32)
    network = clone(FAST).set_params(build=Small(norm=True, dropout=0.5)).fit(*clouds).network_
    with torch.no_grad():
        for layers in (network, network[1:]):
            expected = layers(torch.from_numpy(X)).numpy()
            assert dense_layers(layers).scores(X) == pytest.approx(expected, abs=1e-4)
        expected = network(torch.from_numpy((X - mean) / scale)).numpy()
    assert dense_layers(network, mean, scale).scores(X) == pytest.approx(expected, abs=1e-3)


def test_other_layers_are_no_head():
    """What a saved head cannot hold is named, a batch norm in the middle too."""
    from torch import nn

    from assay.notebook.training import dense_layers

    for layer in (nn.Tanh(), nn.BatchNorm1d(3)):
        with pytest.raises(ValueError, match=f"expected Linear, ReLU.*, got {type(layer).__name__}"):
            dense_layers([nn.Linear(4, 3), layer])
