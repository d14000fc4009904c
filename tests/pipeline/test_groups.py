"""No group is on two sides of a split of a run, and its figures say that they are by groups."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from small_runs import CLASSES, read_record, read_rows

from assay.data.read import read_dataset
from assay.embed.backbone import load_backbone
from assay.embed.images import embed_images
from assay.errors import LabelError, OtherRunError, UsageError
from assay.pipeline.finetune_split import split_for_finetuning
from assay.pipeline.holdout import mask_holdout
from assay.pipeline.run import run
from assay.types import UNKNOWN

PATIENTS = np.append(np.arange(40), np.random.default_rng(0).integers(0, 40, 200))


def declare(data, patients) -> None:
    """Give the noisy labels a column of patients; -1 for none."""
    file = data.folder / "noisy.csv"
    lines = [f"{row}.png,{CLASSES[label]}" for row, label in enumerate(data.noisy)]
    cells = ["" if patient < 0 else f"p{patient}" for patient in patients]
    rows = [f"{line},{cell}\n" for line, cell in zip(lines, cells, strict=True)]
    file.write_text("file,label,patient\n" + "".join(rows))


@pytest.fixture(scope="module")
def by_patient(small_data, options, tmp_path_factory):
    """A finished run with 40 patients, not to be changed."""
    folder = tmp_path_factory.mktemp("patients")
    data = replace(small_data, folder=folder)
    declare(data, PATIENTS)
    read = replace(small_data.read, noisy=folder / "noisy.csv", group_column="patient")
    return run(small_data.images, folder / "out", replace(options, read=read))


@pytest.fixture
def split(small_data, options, tmp_path):
    """The images as a run of these patients splits them."""

    def split(patients=PATIENTS, **changes):
        data = replace(small_data, folder=tmp_path)
        declare(data, patients)
        read = replace(small_data.read, noisy=tmp_path / "noisy.csv", group_column="patient")
        settings = replace(options, read=read, **changes)
        dataset = read_dataset(small_data.images, read)
        features = embed_images(dataset, load_backbone("tiny", tmp_path), options.cache, mirrored=True)
        dataset, found = features.seen(dataset), settings.split(dataset)
        return dataset, found, mask_holdout(dataset, found, features, settings)

    return split


def test_a_patient_is_in_one_fold_or_in_the_holdout(split):
    """All images, those without a trusted label too; each fold and the holdout have images of each class."""
    dataset, found, partition = split()
    fold_of, groups = partition.data.fold_of, dataset.groups
    assert all(len(np.unique(fold_of[groups == group])) == 1 for group in np.unique(groups))
    assert {*fold_of.tolist()} == {UNKNOWN, *range(5)}
    assert (fold_of[found.hidden] == UNKNOWN).all()
    assert (partition.data.noisy[found.hidden] == UNKNOWN).all()
    assert len(found.beside) > 10
    assert {*dataset.trusted[found.holdout].tolist()} == {0, 1, 2}


def test_near_duplicates_take_their_patients_along(split, small_data, own_data, monkeypatch):
    """Two patients with one picture between them are in one fold, whole."""
    dataset, _, partition = split()
    fitted = np.flatnonzero(partition.data.fold_of != UNKNOWN)
    other = next(row for row in fitted if partition.data.fold_of[row] != partition.data.fold_of[fitted[0]])
    pair = np.array([fitted[0], other])
    monkeypatch.setattr("assay.pipeline.holdout._near_duplicates", lambda *_: [pair])
    fold_of = split()[2].data.fold_of
    both = np.isin(dataset.groups, dataset.groups[pair])
    assert len(np.unique(fold_of[both])) == 1
    assert all(len(np.unique(fold_of[dataset.groups == group])) == 1 for group in np.unique(dataset.groups))


def test_fine_tuning_is_measured_on_patients_of_its_own(split):
    """No validation patient is trained on; of a calibration patient no trusted label is."""
    dataset, _, partition = split()
    data = partition.data
    found = split_for_finetuning(data, [])
    groups = dataset.groups
    assert not np.isin(groups[found.train], groups[found.validation]).any()
    assert len(np.unique(groups[found.validation])) >= 2
    by_trusted = np.setdiff1d(np.flatnonzero(data.trusted != UNKNOWN), found.calibration_rows)
    assert not np.isin(groups[by_trusted], groups[found.calibration_rows]).any()
    # A near-duplicate within a patient gives nothing away, one of another takes the whole patient out.
    patients = groups[found.calibration_rows]
    of_one = found.calibration_rows[patients == np.bincount(patients).argmax()]
    assert len(of_one) > 1
    assert (split_for_finetuning(data, [of_one]).calibration_rows == found.calibration_rows).all()
    elsewhere = np.setdiff1d(by_trusted, found.validation)[0]
    given_away = split_for_finetuning(data, [np.array([of_one[0], elsewhere])])
    assert np.setdiff1d(found.calibration_rows, given_away.calibration_rows).tolist() == of_one.tolist()


def test_the_results_say_that_they_are_by_groups(by_patient, finished):
    """run.json, noise.json, evaluation.json, labels.csv and the model card; a run without groups does not."""
    out = by_patient.path
    record = read_record(out)
    assert record["data"]["groups"]["count"] == 40
    held = by_patient.evaluation["assay"].groups
    assert 4 <= held <= 12
    trained = len(np.unique(PATIENTS[::2])) - held  # every second image is trusted
    assert by_patient.evaluation["labels_cross_validated"].groups == trained
    assert (by_patient.facts["groups"], by_patient.noise.groups) == (40, trained)
    rows = read_rows(out)
    groups = np.array([int(row["group"]) for row in rows])
    assert len(np.unique(groups)) == 40
    beside = [row for row in rows if row["reason"] == "group of the holdout"]
    assert beside
    assert all(row["corrected_label"] and row["action"] != "trusted" for row in beside)
    card = (out / "model" / "README.md").read_text()
    assert "No split divides one of the 40 groups; intervals are by groups." in card
    assert f"n = {by_patient.evaluation['assay'].n} in {held} groups, holdout" in card
    for name in ("run.json", "noise.json", "evaluation.json", "labels.csv", "model/README.md"):
        assert "group" not in (finished.out / name).read_text()


def test_other_groups_are_another_run(by_patient, small_data, options, tmp_path):
    """A finished run is not taken for one with other patients, or with none."""
    out, read = by_patient.path, small_data.read
    with pytest.raises(OtherRunError, match="holds a run with other groups"):
        run(small_data.images, out, options)
    declare(replace(small_data, folder=tmp_path), np.roll(PATIENTS, 1))
    read = replace(read, noisy=tmp_path / "noisy.csv", group_column="patient")
    with pytest.raises(OtherRunError, match="holds a run with other groups"):
        run(small_data.images, out, replace(options, read=read))


@pytest.mark.parametrize(
    ("patients", "changes", "error", "message"),
    [
        (
            "class",
            {},
            LabelError,
            r"^all 46 trusted images of 'ash' are of one group, that of '[0-9]+.png', so",
        ),
        (
            "four",
            {},
            UsageError,
            r"^expected at least 5 groups besides the holdout's, one for each fold, got 3;",
        ),
        (
            "own",
            {"holdout_split": "notebook"},
            UsageError,
            "^--holdout-split notebook holds out images whatever",
        ),
        (
            "five",
            {"preset": "best", "folds": 3},
            LabelError,
            r"^expected 6 trusted images of different groups",
        ),
    ],
)
def test_groups_that_cannot_be_split_are_refused(
    small_data, options, tmp_path, patients, changes, error, message
):
    """A class in one group, fewer groups than folds, the notebook's holdout; before any image is opened."""
    rows = np.arange(240)
    declared = {"class": small_data.truth, "four": rows % 4, "own": rows * 0 - 1, "five": rows % 5}[patients]
    declare(replace(small_data, folder=tmp_path), declared)
    read = replace(small_data.read, noisy=tmp_path / "noisy.csv", group_column="patient")
    with pytest.raises(error, match=message):
        run(small_data.images, tmp_path / "out", replace(options, read=read, **changes))
    assert not (tmp_path / "out").exists()


def test_json_of_groups_is_read_back(by_patient):
    """The number of groups of each figure, as evaluation.json has it."""
    found = json.loads((by_patient.path / "evaluation.json").read_text())["systems"]
    assert {name: one.groups for name, one in by_patient.evaluation.items()} == {
        name: one["groups"] for name, one in found.items()
    }


def test_patients_in_file_names_are_reported_unless_they_are_declared(options, tmp_path):
    """Each of 40 patients has a texture of its own; the warning stands in evaluation.json too."""
    generator, n = np.random.default_rng(0), 240
    textures = generator.integers(0, 150, (40, 32, 32, 3))
    (tmp_path / "images").mkdir()
    rows, trusted = [], []
    for row in range(n):
        patient, label = row % 40, row % 40 % 3
        pixels = textures[patient] + generator.integers(0, 90, (32, 32, 3))
        pixels[10 * label : 10 * label + 10] //= 2
        name = f"p{patient:02d}_{row:03d}.png"
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "images" / name)
        rows.append(f"{name},{CLASSES[(label + (row % 5 == 0)) % 3]},{patient}")
        trusted += [f"{name},{CLASSES[label]}"] * (row % 2)
    (tmp_path / "noisy.csv").write_text("\n".join(["file,label,patient", *rows]))
    (tmp_path / "trusted.csv").write_text("\n".join(["file,label", *trusted]))
    read = replace(options.read, noisy=tmp_path / "noisy.csv", trusted=tmp_path / "trusted.csv")
    for column, expected in ((None, True), ("patient", False)):
        changed = replace(options, read=replace(read, group_column=column))
        found = run(tmp_path / "images", tmp_path / str(column), changed)
        assert (
            any("name that column with --group-col" in line for line in found.facts["warnings"]) is expected
        )
