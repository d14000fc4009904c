"""Training does not depend on the holdout, and no figure counts a training image or its copy."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from small_datasets import InMemory
from small_runs import CLASSES, write_labels

from assay.data.dataset import Dataset, Skipped
from assay.data.read import read_dataset
from assay.data.split import Split, draw_holdout
from assay.embed.backbone import load_backbone
from assay.embed.images import embed_images
from assay.errors import LabelError, UsageError
from assay.pipeline.holdout import check_learnable, mask_holdout
from assay.pipeline.options import uses_flip_tta
from assay.pipeline.run import run
from assay.types import UNKNOWN

MODEL = "model/model.safetensors"


def bytes_of(out, *names: str) -> list[bytes]:
    return [(out / name).read_bytes() for name in names]


@pytest.fixture
def same_split(finished, small_data, options, monkeypatch):
    """The split of the finished run for every run: the labels that it is stratified by may change."""
    dataset = read_dataset(small_data.images, options.read)
    split = draw_holdout(dataset.trusted)
    monkeypatch.setattr("assay.pipeline.options.draw_holdout", lambda *_, **__: split)
    return split


def test_labels_of_the_holdout_are_not_trained_on(finished, same_split, own_data, options, tmp_path):
    """With its trusted, or its noisy labels changed, noise and model are the same bytes (fault 39)."""
    changed, held = replace(options, read=own_data.read), same_split.holdout
    rows, truth, noisy = own_data.trusted_rows, own_data.truth.copy(), own_data.noisy.copy()
    truth[held] = (truth[held] + 1) % 3
    write_labels(own_data.folder / "trusted.csv", rows, truth[rows])
    result = run(own_data.images, tmp_path / "trusted", changed)
    names = ("labels.csv", "noise.json", MODEL)
    assert bytes_of(tmp_path / "trusted", *names) == bytes_of(finished.out, *names)
    # The figures are not the same: they are what the labels are for.
    assert result.evaluation["assay"].accuracy.estimate < 0.1

    noisy[held] = (noisy[held] + 1) % 3
    write_labels(own_data.folder / "trusted.csv", rows, own_data.truth[rows])
    write_labels(own_data.folder / "noisy.csv", range(240), noisy)
    result = run(own_data.images, tmp_path / "noisy", changed)
    assert bytes_of(tmp_path / "noisy", *names[1:]) == bytes_of(finished.out, *names[1:])
    lines = [(out / "labels.csv").read_text().splitlines()[1:] for out in (tmp_path / "noisy", finished.out)]
    differing = {row for row, (one, other) in enumerate(zip(*lines, strict=True)) if one != other}
    assert differing <= {*held.tolist()}
    for name in ("assay", "histogram"):
        assert result.evaluation[name].accuracy == finished.result.evaluation[name].accuracy


@pytest.fixture
def masked(options, tmp_path):
    """``mask_holdout`` on the present state of some data, and its split."""

    def mask(data, **changes):
        settings = replace(options, read=data.read, **changes)
        dataset, backbone = read_dataset(data.images, data.read), load_backbone("tiny", tmp_path)
        mirrored = uses_flip_tta(settings.preset)
        features = embed_images(dataset, backbone, options.cache, mirrored=mirrored)
        dataset, split = features.seen(dataset), draw_holdout(dataset.trusted)
        return mask_holdout(dataset, split, features, settings, backbone), split

    return mask


def copy_image(data, source: int, target: int) -> None:
    shutil.copy(data.images / f"{source}.png", data.images / f"{target}.png")


def test_every_usable_image_is_learned_from_or_held_out(masked, own_data):
    """Held-out and skipped images have no fold and no label, all others a fold; each part has all classes."""
    (own_data.images / "0.png").write_bytes(b"")
    partition, split = masked(own_data)
    folded = partition.data.fold_of != UNKNOWN
    without = [0, *split.holdout.tolist()]
    assert not folded[without].any()
    assert folded.sum() == 240 - len({*without})
    assert {*partition.data.fold_of[folded].tolist()} == {*range(5)}
    assert {*partition.data.trusted[without].tolist(), *partition.data.noisy[without].tolist()} == {UNKNOWN}
    assert partition.holdout.tolist() == [row for row in split.holdout.tolist() if row != 0]
    for rows in (split.holdout, np.flatnonzero(partition.data.trusted != UNKNOWN)):
        assert {*own_data.truth[rows].tolist()} == {0, 1, 2}


@pytest.mark.parametrize("preset", ["fast", "balanced"])
def test_a_mirrored_copy_of_a_held_out_image_is_found(masked, own_data, preset):
    """Four copies of an image, two of them mirrored, are one group in one fold (fault 40)."""
    _, split = masked(own_data)
    held = int(split.holdout[0])
    others = np.setdiff1d(np.flatnonzero(own_data.truth == own_data.truth[held]), split.holdout)[:3].tolist()
    picture = Image.open(own_data.images / f"{held}.png")
    for row, mirrored in zip(others, (True, True, False), strict=True):
        copy = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else picture
        copy.save(own_data.images / f"{row}.png")
    partition, _ = masked(own_data, preset=preset)
    assert partition.leaked.tolist() == [held]
    assert [rows.tolist() for rows in partition.near_duplicates] == [sorted([held, *others])]
    assert len({*partition.data.fold_of[others].tolist()}) == 1


@pytest.mark.parametrize(("preset", "leaks"), [("fast", False), ("balanced", True)])
def test_a_copy_without_any_label_leaks_into_a_network_alone(masked, own_data, preset, leaks):
    """At preset fast, where only a head is trained, it is no leak (fault 40)."""
    _, split = masked(own_data)
    held = int(split.holdout[0])
    (copy, *_) = np.setdiff1d(np.arange(240), own_data.trusted_rows).tolist()
    copy_image(own_data, held, copy)
    noisy = own_data.folder / "noisy.csv"
    lines = noisy.read_text().splitlines()
    lines[1 + copy] = f"{copy}.png,"
    noisy.write_text("\n".join(lines) + "\n")
    partition, _ = masked(own_data, preset=preset)
    assert partition.leaked.tolist() == ([held] if leaks else [])
    assert [rows.tolist() for rows in partition.near_duplicates] == [sorted([held, copy])]


def test_held_out_images_that_cannot_be_counted(masked, own_data, options, tmp_path):
    """Copies of training images leave the evaluation, skipped ones too; both are reported (fault 40)."""
    _, split = masked(own_data)
    held, originals = [], []
    for row in split.holdout.tolist():
        # Of its class, so that no trusted label contradicts.
        original = int(split.fit[own_data.truth[split.fit] == own_data.truth[row]][0])
        held, originals = [*held, row], [*originals, original]
    copy_image(own_data, originals[0], held[0])
    for row in held[1:4]:
        (own_data.images / f"{row}.png").write_bytes(b"no image")
    changed = replace(options, read=own_data.read)
    result = run(own_data.images, tmp_path / "out", changed)
    found = result.evaluation["assay"]
    assert any("3 images could not be used" in line for line in result.warnings)
    assert result.facts["left_out"] == [f"{held[0]}.png"]
    assert (found.n, result.evaluation["assay_leaks_included"].n, found.skipped) == (20, 21, 3)

    for row, original in zip(held, originals, strict=True):
        copy_image(own_data, original, row)
    result = run(own_data.images, tmp_path / "copies", changed)
    assert any("this model's accuracy is not measured" in line for line in result.warnings)
    assert "assay" not in result.evaluation

    for row in held:
        (own_data.images / f"{row}.png").write_bytes(b"no image")
    result = run(own_data.images, tmp_path / "broken", changed)
    warning = "none of the held-out images could be used: this model's accuracy is not measured"
    assert any(warning in line for line in result.warnings)
    assert "assay" not in result.evaluation


def test_copies_share_a_fold_and_no_fold_is_emptied(masked, own_data):
    """No image is both trained on and tested; where all images are equal, the folds stay (fault 40)."""
    before, _ = masked(own_data)
    (first, *others) = np.setdiff1d(np.arange(240), own_data.trusted_rows).tolist()
    fold_of = before.data.fold_of
    elsewhere = [row for row in others if fold_of[row] not in (fold_of[first], UNKNOWN)][:3]
    for other in elsewhere:
        copy_image(own_data, first, other)
    after, _ = masked(own_data)
    assert {*after.data.fold_of[[first, *elsewhere]].tolist()} == {int(fold_of[first])}
    assert (after.data.fold_of == fold_of).sum() == 240 - len(elsewhere)
    for other in others:
        copy_image(own_data, first, other)
    partition, _ = masked(own_data)
    assert {*partition.data.fold_of.tolist()} == {UNKNOWN, *range(5)}


def test_equal_images_with_different_trusted_labels_are_refused(own_data, options, tmp_path):
    """One image under two names cannot be of two classes, in whatever part (fault 32)."""
    rows = own_data.trusted_rows
    one = int(rows[0])
    other = int(rows[own_data.truth[rows] != own_data.truth[one]][0])
    copy_image(own_data, one, other)
    classes = CLASSES[own_data.truth[one]], CLASSES[own_data.truth[other]]
    message = rf"conflicting_trusted: .*'{one}.png' is '{classes[0]}', '{other}.png' is '{classes[1]}'. Corr"
    with pytest.raises(LabelError, match=message):
        run(own_data.images, tmp_path / "out", replace(options, read=own_data.read))


def test_fewer_images_than_folds_are_refused(masked, small_data):
    """There must be an image for each fold."""
    with pytest.raises(UsageError, match=r"expected at least 217 usable images to train on, got 216$"):
        masked(small_data, folds=217)


@pytest.mark.parametrize(
    ("noisy", "trusted", "message"),
    [
        (
            [-1, -1, -1],
            [0, 1, -1],
            r"expected noisy labels, got none of 3 images: neither --noisy FILE nor a "
            r"metadata file among the images nor class folders gave any\. Pass --noisy",
        ),
        ([-1, -1, 0], [0, 1, -1], r"both a noisy and a trusted label, got none among the 2 trusted ones"),
        ([0, 1, 1], [-1, -1, 0], r"can be used, got none among 1; 1 skipped: 1 outside_root \(.*--follow"),
    ],
    ids=["no noisy", "no pairs", "none usable"],
)
def test_useless_labels_are_refused_before_any_image_is_read(noisy, trusted, message):
    """Each message says what is missing (fault 38)."""
    dataset = Dataset(
        names=("1.png", "2.png", "3.png"),
        source=InMemory(()),
        classes=("a", "b"),
        noisy=np.array(noisy),
        trusted=np.array(trusted),
        skipped={2: Skipped("outside_root")},
    )
    fit = np.flatnonzero((dataset.trusted != UNKNOWN) & dataset.usable)
    split = Split(fit, np.array([], dtype=np.int64))
    with pytest.raises(LabelError, match=message):
        check_learnable(dataset, split)


def test_decisions_of_a_review_count_as_labels():
    """Trusted labels of one class and decisions on another are two classes."""
    dataset = Dataset(
        names=("1.png", "2.png", "3.png", "4.png"),
        source=InMemory(()),
        classes=("a", "b"),
        noisy=np.array([0, 1, 1, 1]),
        trusted=np.array([1, 1, UNKNOWN, UNKNOWN]),
        decided={2: 0, 3: 0},
    )
    check_learnable(dataset, Split(np.array([0, 1]), np.array([], dtype=np.int64)))
