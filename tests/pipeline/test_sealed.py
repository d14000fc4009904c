"""Nothing that is learned depends on what was held out."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_runs import CLASSES, write_labels

from assay.data.arrange import PickedSource
from assay.data.dataset import Dataset, Skipped
from assay.data.read import read_dataset
from assay.data.sources import FolderSource
from assay.data.split import Split, draw_holdout
from assay.embed.backbone import load_backbone
from assay.embed.images import embed_images
from assay.errors import LabelError, UsageError
from assay.pipeline.holdout import _together, check_learnable, mask_holdout
from assay.pipeline.mirrors import mirrors_for
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


def test_trusted_labels_of_the_holdout_teach_nothing(
    finished, same_split, own_data, read_of, options, tmp_path
):
    """With the held-out trusted labels all wrong, labels, noise and model are byte for byte the same."""
    trusted = own_data.truth.copy()
    trusted[same_split.holdout] = (trusted[same_split.holdout] + 1) % 3
    rows = own_data.trusted_rows
    write_labels(own_data.folder / "trusted.csv", rows, trusted[rows])
    result = run(own_data.images, tmp_path / "out", replace(options, read=read_of(own_data)))
    names = ("labels.csv", "noise.json", MODEL)
    assert bytes_of(tmp_path / "out", *names) == bytes_of(finished.out, *names)
    # The figures are not: they are what the labels are for.
    assert result.evaluation["assay"].accuracy.estimate < 0.1


def test_noisy_labels_of_the_holdout_teach_nothing(
    finished, same_split, own_data, read_of, options, tmp_path
):
    """With the held-out noisy labels all changed, noise, model and all other rows are the same."""
    noisy = own_data.noisy.copy()
    noisy[same_split.holdout] = (noisy[same_split.holdout] + 1) % 3
    write_labels(own_data.folder / "noisy.csv", range(240), noisy)
    result = run(own_data.images, tmp_path / "out", replace(options, read=read_of(own_data)))
    assert bytes_of(tmp_path / "out", "noise.json", MODEL) == bytes_of(finished.out, "noise.json", MODEL)
    lines = [(out / "labels.csv").read_text().splitlines()[1:] for out in (tmp_path / "out", finished.out)]
    differing = [row for row, (one, other) in enumerate(zip(*lines, strict=True)) if one != other]
    assert set(differing) <= set(same_split.holdout.tolist())
    assert result.evaluation["assay"].accuracy == finished.result.evaluation["assay"].accuracy
    assert result.evaluation["histogram"].accuracy == finished.result.evaluation["histogram"].accuracy


@pytest.fixture
def sealed_of(options, tmp_path):
    """What ``mask_holdout`` makes of some data, at effort fast unless it is changed."""

    def close(data, read, **changes):
        asked = replace(options, read=read, **changes)
        dataset, backbone = read_dataset(data.images, read), load_backbone("tiny", tmp_path)
        both = uses_flip_tta(asked.preset)
        features = embed_images(dataset, backbone, tmp_path / "own", mirrored=both)
        dataset, split = features.seen(dataset), draw_holdout(dataset.trusted)
        return mask_holdout(dataset, split, features, asked, mirrors_for(dataset, backbone, asked)), split

    return close


def test_every_usable_image_is_learned_from_or_held_out(sealed_of, own_data, read_of):
    """Held-out and skipped images have no fold, all others have one; held-out trusted labels are gone."""
    (own_data.images / "0.png").write_bytes(b"")
    sealed, split = sealed_of(own_data, read_of(own_data))
    folded = sealed.data.fold_of != UNKNOWN
    assert not folded[0]
    assert not folded[split.holdout].any()
    assert folded.sum() == 240 - len({0, *split.holdout.tolist()})
    assert set(sealed.data.fold_of[folded].tolist()) == set(range(5))
    assert (sealed.data.trusted[split.holdout] == UNKNOWN).all()
    assert sealed.holdout.tolist() == [row for row in split.holdout.tolist() if row != 0]


@pytest.mark.parametrize("preset", ["fast", "balanced"])
def test_a_mirrored_copy_of_a_held_out_image_is_found(sealed_of, own_data, read_of, preset):
    """Whichever of the two is the mirror, and with a copy of each: one picture in four files."""
    _, split = sealed_of(own_data, read_of(own_data))
    held = int(split.holdout[0])
    others = np.setdiff1d(np.flatnonzero(own_data.truth == own_data.truth[held]), split.holdout)
    picture = Image.open(own_data.images / f"{held}.png")
    for row, mirrored in ((others[0], True), (others[1], True), (others[2], False)):
        copy = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else picture
        copy.save(own_data.images / f"{row}.png")
    sealed, _ = sealed_of(own_data, read_of(own_data), preset=preset)
    assert sealed.leaked.tolist() == [held]
    assert [rows.tolist() for rows in sealed.near_duplicates] == [sorted([held, *others[:3].tolist()])]
    assert len({*sealed.data.fold_of[others[:3]].tolist()}) == 1


@pytest.mark.parametrize(("preset", "leaks"), [("fast", False), ("balanced", True)])
def test_a_copy_without_any_label_teaches_a_network_and_no_head(sealed_of, own_data, read_of, preset, leaks):
    """So at effort fast it says nothing about the held-out picture."""
    _, split = sealed_of(own_data, read_of(own_data))
    held = int(split.holdout[0])
    (twin, *_) = np.setdiff1d(np.arange(240), own_data.trusted_rows).tolist()
    (own_data.images / f"{twin}.png").write_bytes((own_data.images / f"{held}.png").read_bytes())
    noisy = own_data.folder / "noisy.csv"
    lines = noisy.read_text().splitlines()
    lines[1 + twin] = f"{twin}.png,"
    noisy.write_text("\n".join(lines) + "\n")
    sealed, _ = sealed_of(own_data, read_of(own_data), preset=preset)
    assert sealed.leaked.tolist() == ([held] if leaks else [])
    assert [rows.tolist() for rows in sealed.near_duplicates] == [sorted([held, twin])]


def test_a_held_out_image_that_is_also_learned_from_is_left_out(
    sealed_of, own_data, read_of, options, tmp_path
):
    """A copy, byte for byte, of an image of the fit part is reported and leaves the evaluation."""
    _, split = sealed_of(own_data, read_of(own_data))
    held = int(split.holdout[0])
    same = own_data.truth[split.fit] == own_data.truth[held]
    twin = int(split.fit[same][0])
    (own_data.images / f"{held}.png").write_bytes((own_data.images / f"{twin}.png").read_bytes())
    sealed, _ = sealed_of(own_data, read_of(own_data))
    assert sealed.leaked.tolist() == [held]
    result = run(own_data.images, tmp_path / "out", replace(options, read=read_of(own_data)))
    assert result.evaluation["assay"].n == 23
    assert result.evaluation["assay_leaks_included"].n == 24
    message = "1 holdout images show a picture that was learned from: left out of the evaluation"
    assert message in result.warnings


def test_copies_share_a_fold(sealed_of, own_data, read_of):
    """What was learned from a picture is not tried on the same picture, whatever its files are called."""
    before, _ = sealed_of(own_data, read_of(own_data))
    first = int(np.setdiff1d(np.arange(240), own_data.trusted_rows)[0])
    elsewhere = (before.data.fold_of != before.data.fold_of[first]) & (before.data.fold_of != UNKNOWN)
    elsewhere[own_data.trusted_rows] = False
    others = np.flatnonzero(elsewhere)[:3].tolist()
    for other in others:
        (own_data.images / f"{other}.png").write_bytes((own_data.images / f"{first}.png").read_bytes())
    after, _ = sealed_of(own_data, read_of(own_data))
    assert {*after.data.fold_of[[first, *others]].tolist()} == {int(before.data.fold_of[first])}
    assert (after.data.fold_of == before.data.fold_of).sum() == 240 - len(others)


def test_images_that_are_all_one_picture_keep_their_folds(sealed_of, own_data, read_of):
    """No fold may lose all of its images."""
    same = (own_data.images / "0.png").read_bytes()
    for row in np.setdiff1d(np.arange(240), own_data.trusted_rows).tolist():
        (own_data.images / f"{row}.png").write_bytes(same)
    sealed, _ = sealed_of(own_data, read_of(own_data))
    assert set(sealed.data.fold_of.tolist()) == {UNKNOWN, *range(5)}


def test_equal_images_with_different_trusted_labels_are_refused(own_data, read_of, options, tmp_path):
    """Two names of one picture cannot be two classes, wherever the split puts them."""
    rows = own_data.trusted_rows
    one = int(rows[0])
    other = int(rows[own_data.truth[rows] != own_data.truth[one]][0])
    (own_data.images / f"{other}.png").write_bytes((own_data.images / f"{one}.png").read_bytes())
    classes = CLASSES[own_data.truth[one]], CLASSES[own_data.truth[other]]
    message = (
        rf"conflicting_trusted: .*'{one}.png' is '{classes[0]}', '{other}.png' is '{classes[1]}'. Correct one"
    )
    with pytest.raises(LabelError, match=message):
        run(own_data.images, tmp_path / "out", replace(options, read=read_of(own_data)))


def test_skipped_images_of_the_holdout_are_counted(sealed_of, own_data, read_of, options, tmp_path):
    """A held-out image that cannot be read has no figure, and the evaluation says how many there were."""
    _, split = sealed_of(own_data, read_of(own_data))
    for row in split.holdout[:3]:
        (own_data.images / f"{row}.png").write_bytes(b"no image")
    result = run(own_data.images, tmp_path / "out", replace(options, read=read_of(own_data)))
    assert (result.evaluation["assay"].n, result.evaluation["assay"].skipped) == (21, 3)
    assert "3 images could not be used, see image_issues.csv: 3 not_an_image" in result.warnings


def test_a_holdout_without_a_usable_image_is_said(sealed_of, own_data, read_of, options, tmp_path):
    """If no held-out image can be read the model is not measured, and that is a warning."""
    _, split = sealed_of(own_data, read_of(own_data))
    for row in split.holdout:
        (own_data.images / f"{row}.png").write_bytes(b"")
    result = run(own_data.images, tmp_path / "out", replace(options, read=read_of(own_data)))
    assert "assay" not in result.evaluation
    assert (
        "none of the held-out images could be used: this model's accuracy is not measured" in result.warnings
    )


def test_fewer_images_than_folds_are_refused(sealed_of, small_data, read_of):
    """There must be an image for each fold."""
    with pytest.raises(UsageError, match=r"expected at least 217 usable images to learn from, got 216$"):
        sealed_of(small_data, read_of(small_data), folds=217)


def test_no_class_is_lost_between_the_parts(sealed_of, small_data, read_of):
    """Each class has trusted images on both sides of the seal."""
    sealed, split = sealed_of(small_data, read_of(small_data))
    for rows in (split.holdout, np.flatnonzero(sealed.data.trusted != UNKNOWN)):
        assert set(small_data.truth[rows].tolist()) == {0, 1, 2}


def test_one_picture_that_would_empty_a_fold_does_not_part_the_others():
    """It stays apart itself; other pictures are in one fold each, and no fold is empty."""
    fold_of = np.array([0, 1, 2, 3, 4, 0, 1, 2, 3, UNKNOWN])
    found = _together(fold_of, [np.array([0, 4]), np.array([1, 2, 9]), np.array([5, 8])])
    assert found.tolist() == [0, 1, 1, 3, 4, 0, 1, 2, 0, UNKNOWN]


def test_a_holdout_of_copies_alone_is_said(own_data, read_of, options, sealed_of, tmp_path):
    """Each held-out picture is learned from under another name: the warning, and the card, say just that."""
    _, split = sealed_of(own_data, read_of(own_data))
    fit = np.setdiff1d(np.arange(240), split.holdout)
    for row, other in zip(split.holdout, fit[small_classes(own_data, fit, split.holdout)], strict=True):
        shutil.copy(own_data.images / f"{other}.png", own_data.images / f"{row}.png")
    result = run(own_data.images, tmp_path / "out", replace(options, read=read_of(own_data)))
    assert "assay" not in result.evaluation
    why = "each held-out picture was also learned from"
    assert f"{why}: this model's accuracy is not measured" in result.warnings
    assert why in (tmp_path / "out" / "model" / "README.md").read_text().lower()


def small_classes(data, fit, holdout):
    """For each held-out row the place of a fit row of its class, whose trusted label cannot contradict."""
    return [int(np.flatnonzero(data.truth[fit] == data.truth[row])[0]) for row in holdout]


@pytest.mark.parametrize(
    ("noisy", "trusted", "message"),
    [
        (
            [-1, -1, -1],
            [0, 1, -1],
            r"expected noisy labels, got none of 3 images; give them with --noisy FILE",
        ),
        ([-1, -1, 0], [0, 1, -1], r"both a given and a trusted label, got none among the 2 trusted ones"),
        ([0, 1, 1], [1, 1, -1], r"not of the most frequent class, got 0 and 2 of 'b'; add trusted labels"),
        ([0, 1, 1], [1, 0, -1], r"not of the most frequent class, got 1 and 1 of 'a'; add trusted labels"),
        (
            [0, 1, 1],
            [-1, -1, 0],
            r"images that can be used, got none among 1; 1 skipped: 1 outside_root \(.*--follow",
        ),
    ],
    ids=["no noisy", "no pairs", "one class", "one of the other", "none usable"],
)
def test_labels_that_teach_nothing_are_refused_before_any_image_is_read(noisy, trusted, message):
    """Each in words that say what is missing."""
    dataset = Dataset(
        names=("1.png", "2.png", "3.png"),
        source=PickedSource(FolderSource(Path(), ()), (None,) * 3),
        classes=("a", "b"),
        noisy=np.array(noisy),
        trusted=np.array(trusted),
        skipped={2: Skipped("outside_root")},
    )
    fit = np.flatnonzero((dataset.trusted != UNKNOWN) & dataset.usable)
    with pytest.raises(LabelError, match=message):
        check_learnable(dataset, Split(fit, np.array([], dtype=np.int64)))


def test_what_was_decided_is_learned_from_too():
    """Trusted labels of one class and decisions on another are two."""
    dataset = Dataset(
        names=("1.png", "2.png", "3.png", "4.png"),
        source=PickedSource(FolderSource(Path(), ()), (None,) * 4),
        classes=("a", "b"),
        noisy=np.array([0, 1, 1, 1]),
        trusted=np.array([1, 1, UNKNOWN, UNKNOWN]),
        decided={2: 0, 3: 0},
    )
    check_learnable(dataset, Split(np.array([0, 1]), np.array([], dtype=np.int64)))
