"""The pictures of a comparison's folder."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from pictures import picture, saved
from small_datasets import dataset_of, drawn

from assay.data.dataset import Skipped
from assay.errors import ModelError
from assay.notebook.networks import Epoch
from assay.notebook.pictures import (
    MAX_GROUPS,
    are_drawn,
    describe_layers,
    draw_history,
    draw_layers,
    draw_samples,
    write_pictures,
)
from assay.predict.layers import Layers
from assay.predict.model import Model

N, HELD = 20, (1, 4, 6)


@pytest.fixture
def dataset():
    """Twenty images of two classes; every noisy label of the first class is wrong."""
    trusted, noisy = np.arange(N) % 2, np.ones(N, dtype=np.int64)
    return replace(dataset_of(drawn(N, height=8, width=8)), classes=("0", "1"), noisy=noisy, trusted=trusted)


@pytest.fixture
def folder(tmp_path):
    """The folder of a comparison of two systems, of which one was trained by epochs."""
    rows = "".join(f"{row}.png,{0.9 if row == 1 else 0.2},{0.1 if row == 1 else 0.8}\n" for row in HELD)
    for system in ("cnn-1", "assay"):
        (tmp_path / "models" / system).mkdir(parents=True)
        (tmp_path / "models" / system / "holdout.csv").write_text("file,0,1\n" + rows)
    history = "stage,epoch,loss,accuracy,seconds\nnoisy,1,2.5,0.2,1.0\nnoisy,2,2.0,0.4,1.0\n"
    (tmp_path / "models" / "cnn-1" / "history.csv").write_text(history)
    Model("histogram", 32, ("0", "1"), head(15, 2)).save(tmp_path / "models" / "cnn-1")
    return tmp_path


def zeros(*shape):
    return np.zeros(shape, dtype=np.float32)


def head(*widths, **options):
    """A head of linear layers through these widths."""
    weights = [part for i, o in pairwise(widths) for part in (zeros(i, o), zeros(o))]
    return Layers(zeros(widths[0]), zeros(widths[0]) + 1, tuple(weights), **options)


def test_every_picture_is_written(folder, dataset):
    """Samples, confusions, and each model's history and layers; a second time they have the same bytes."""
    written = {file: file.read_bytes() for file in write_pictures(folder, dataset)}
    assert sorted(str(file.relative_to(folder)) for file in written) == [
        "models/cnn-1/history.svg",
        "models/cnn-1/layers.svg",
        "pictures/confusion_assay.svg",
        "pictures/confusion_cnn-1.svg",
        "pictures/confusion_noisy.svg",
        "pictures/samples.svg",
    ]
    assert {file: file.read_bytes() for file in write_pictures(folder, dataset)} == written


def test_holdout_images_are_only_in_their_own_confusion(seen, folder, dataset):
    """Noisy against trusted and the samples leave them out; leaked ones are left out of the confusion too."""
    (folder / "compare.json").write_text('{"left_out": ["4.png"]}')
    (folder / "labels.csv").write_text("file,trusted_label,reason\n0.png,,holdout\n2.png,0,\n")
    write_pictures(folder, replace(dataset, titles=("plane", "car")), held=np.array([3]))
    noisy = seen((folder / "pictures" / "confusion_noisy.svg").read_text())
    assert noisy.title == "Noisy against trusted labels of 15 images"
    shown = seen((folder / "pictures" / "samples.svg").read_text()).description
    names = [part.split(":")[0] for part in shown.split("; ")]
    assert names == [f"{row}.png" for row in (2, 5, 7, 8, 9, 10, 11, 12)]
    found = seen((folder / "pictures" / "confusion_cnn-1.svg").read_text())
    assert found.title == "CNN 1: predicted against trusted labels of 2 holdout images"
    assert found.description == (
        "Trusted labels in rows, predicted labels in columns, 2 images. The two are equal for 0.0 %. "
        "Most often confused: trusted plane, predicted car, 1 image, 100.0 % of the row."
    )
    assert {"plane", "car"} <= set(found.texts)


def test_what_is_not_there_is_left_out(tmp_path, dataset):
    """An empty folder gets the pictures of the data; without trusted labels there is nothing to draw."""
    assert [file.name for file in write_pictures(tmp_path, dataset)] == ["samples.svg", "confusion_noisy.svg"]
    unknown = replace(dataset, trusted=np.full(N, -1))
    assert write_pictures(tmp_path / "other", unknown) == []
    assert not (tmp_path / "other").exists()


def test_what_was_not_drawn_is_noticed(folder, dataset):
    """A comparison that was killed while it drew draws the rest; the model of assay is that of the run."""
    (folder / "models" / "cnn-1").rename(folder / "model")
    assert not are_drawn(folder)
    assert folder / "models" / "assay" / "layers.svg" in write_pictures(folder, dataset)
    assert are_drawn(folder)
    (folder / "models" / "assay" / "layers.svg").unlink()
    assert not are_drawn(folder)


def test_a_damaged_model_is_refused(folder, dataset):
    """A model that was changed after it was written is not drawn."""
    (folder / "models" / "cnn-1" / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="its sha256 is not the one in manifest"):
        write_pictures(folder, dataset)


# Samples.


def test_eight_images_with_two_labels_each(seen, dataset):
    """A noisy label that is not the trusted one is marked; an unknown one is called so."""
    named = replace(dataset, titles=("frog", "truck"))
    found = seen(draw_samples(named, np.arange(N)))
    assert found.images == 8
    assert found.texts[:4] == ["noisy: truck ✗", "trusted: frog", "noisy: truck", "trusted: truck"]
    assert found.description.startswith(
        "0.png: trusted frog, noisy truck; 1.png: trusted truck, noisy truck;"
    )
    unknown = replace(dataset, noisy=np.full(N, -1), trusted=np.full(N, -1))
    assert seen(draw_samples(unknown, np.array([0]))).texts == ["noisy: none", "trusted: unknown"]


def test_an_image_that_cannot_be_opened_makes_room_for_the_next(seen, dataset):
    """A skipped image, an unreadable file and a missing one are passed over, all images too."""
    files = [b"no image", *dataset.source.files[1:]]
    files[1] = Skipped("missing_image")
    broken = replace(dataset, source=replace(dataset.source, files=files), skipped={2: Skipped("truncated")})
    assert seen(draw_samples(broken, np.arange(5))).description == (
        "3.png: trusted 1, noisy 1; 4.png: trusted 0, noisy 1"
    )
    none = draw_samples(broken, np.arange(3))
    assert seen(none).description == "No image with both labels could be opened."


def test_a_large_photo_stays_a_small_picture(dataset):
    """A photo of any size is embedded as a sample of at most 96 pixels."""
    photo = saved(picture(1200, 1600), "JPEG")
    one = replace(dataset, source=replace(dataset.source, files=[photo] * N))
    assert len(draw_samples(one, np.array([0]))) < 60_000


# Loss and accuracy by epoch.

TRUSTED = [Epoch("trusted", i, 1.6 - 0.1 * i, 0.4 + 0.05 * i, 3.0) for i in range(1, 11)]
KEPT = [Epoch("<b> and $x^", i, 1.2 - 0.1 * i, 0.5 + 0.04 * i, 7.0) for i in range(1, 7)]


def test_two_stages_are_told_apart_and_put_in_words(seen):
    """Both are in the legend, whatever their names look like; the description has first and last figures."""
    found = seen(draw_history([*TRUSTED, *KEPT], title="CNN 2"))
    assert found.title == "CNN 2"
    assert found.texts.count("trusted") == found.texts.count("<b> and $x^") == 2
    assert found.description == (
        "Stage trusted, 10 epochs: loss 1.500 to 0.600, accuracy 45.0 % to 90.0 %. "
        "Stage <b> and $x^, 6 epochs: loss 1.100 to 0.600, accuracy 54.0 % to 74.0 %."
    )


def test_one_stage_needs_no_legend(seen):
    """The axes name all; one epoch is a point at a whole number."""
    texts = seen(draw_history(TRUSTED[:1], title="CNN 1")).texts
    assert "trusted" not in texts
    assert {"1", "epoch", "loss", "accuracy on the training labels, %"} <= set(texts)


# Layers.

LITE = {
    "blocks.10.conv_dw.weight": zeros(8, 1, 3, 3),
    "conv_head.weight": zeros(40, 8, 1, 1),
    "blocks.2.conv_dw.weight": zeros(8, 1, 3, 3),
    "blocks.2.conv_pw.weight": zeros(8, 8, 1, 1),
    "bn1.weight": zeros(4),
    "bn1.num_batches_tracked": np.array(3),
    "conv_stem.weight": zeros(4, 3, 3, 3),
}
"""In no order, as safetensors gives them."""


@pytest.fixture
def model():
    return Model(
        architecture="tf_efficientnet_lite0",
        size=128,
        labels=("a", "b", "c"),
        head=head(16, 6, 3, activation="relu"),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        backbone=LITE,
        interpolation="nearest",
        features="map",
        facts={"rounded": True},
    )


def test_layers_go_from_the_image_to_the_probabilities(seen, model):
    """Each part of backbone and head is one layer, in the network's order, in picture and description."""
    layers = describe_layers(model)
    assert [(layer.name, layer.shape, layer.parameters) for layer in layers] == [
        ("image, resized (nearest neighbour)", "128 × 128 × 3", 0),
        ("normalise: (pixel / 255 − mean) / std", "128 × 128 × 3", 0),
        ("tf_efficientnet_lite0: conv_stem", "3 × 3, 4 channels", 108),
        ("tf_efficientnet_lite0: bn1", "", 4),
        ("tf_efficientnet_lite0: blocks.2", "", 136),
        ("tf_efficientnet_lite0: blocks.10", "3 × 3, 8 channels", 72),
        ("tf_efficientnet_lite0: conv_head", "1 × 1, 40 channels", 320),
        ("features: last map, flattened", "16", 0),
        ("standardise", "16", 32),
        ("dense, ReLU", "6", 102),
        ("dense", "3", 21),
        ("round to whole numbers", "3", 0),
        ("softmax", "P(class), 3", 0),
    ]
    found = seen(draw_layers(model, title="Model I: layers"))
    assert found.title == "Model I: layers"
    assert all(layer.name in found.texts and layer.name in found.description for layer in layers)
    assert found.description.endswith("softmax (P(class), 3). 795 numbers in all.")
    turned = replace(model, backbone=dict(reversed(LITE.items())))
    assert draw_layers(turned, title="Model I: layers") == draw_layers(model, title="Model I: layers")


def test_a_backbone_without_weights_is_one_layer(model):
    """Colour histograms have nothing to train, and no normalisation."""
    plain = replace(model, architecture="histogram", backbone={}, mean=(), std=(), interpolation="bicubic")
    assert [layer.name for layer in describe_layers(plain)][:3] == [
        "image, resized (bicubic)",
        "histogram: fixed features, nothing to train",
        "standardise",
    ]


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        ([f"blocks.{i}.weight" for i in range(MAX_GROUPS + 1)], ["blocks"]),
        ([f"part{i}.weight" for i in range(MAX_GROUPS + 1)], ["all parts"]),
        (["bn1.weight", "layer1.0.weight", "conv1.weight"], ["conv1", "bn1", "layer1.0"]),
        (["norm.weight", "blocks.0.weight", "cls_token", "patch_embed.proj.weight"],
         ["cls_token", "patch_embed", "blocks.0", "norm"]),
        (["head.norm.weight", "stem.0.weight", "stages.0.weight"], ["stem.0", "stages.0", "head"]),
    ],
)  # fmt: skip  # a table reads better in two columns
def test_parts_are_named_as_far_as_there_is_room(model, names, parts):
    """A deep network is drawn by its outer parts; first and last parts are known by their names."""
    layers = describe_layers(replace(model, backbone={name: zeros(2, 2) for name in names}))
    found = [layer.name for layer in layers if layer.part == "backbone"]
    assert found == [f"tf_efficientnet_lite0: {part}" for part in parts]
