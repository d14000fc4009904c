"""Corrected labels for other programs: which label an image gets, and that each format is read back."""

import json
import shutil
import zipfile
from collections import Counter
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from review_runs import TITLES, draw_images, write_run
from small_runs import read_rows

import assay
from assay.data.decisions import NO_CLASS, DecisionRequest, open_decisions, read_decisions
from assay.data.write import write_json
from assay.errors import DataError, UsageError
from assay.pipeline.finished import read_finished_run
from assay.pipeline.labels_out import export_labels, final_labels
from assay.pipeline.result import load_run

NAMES = tuple(f"{row}.png" for row in range(40))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Not to be changed."""
    folder = tmp_path_factory.mktemp("images")
    draw_images(folder, NAMES)
    return folder


@pytest.fixture
def own_run(tmp_path, images):
    """Rows 0 and 1 trusted, 2 held out, 3 skipped; 4 decided to be ash, 5 of no class, 6 passed over."""
    run = write_run(tmp_path / "out", images=images)
    store = open_decisions(run / "decisions.sqlite")
    labels = {"4.png": "ash", "5.png": NO_CLASS, "6.png": None, "gone.png": "zebra"}
    store.decide([DecisionRequest(*one, "birch", 0) for one in labels.items()], who="mia", client="one")
    store.close()
    return run


def labels_in(file, **options):
    """File -> label of a table."""
    frame = pl.read_csv(file, infer_schema=False, **options)
    return dict(frame.select("file", "label").iter_rows())


def test_a_person_is_believed_before_the_run(own_run, tmp_path):
    """Trusted labels, those of the holdout, decisions, then the run's; no class and skipped give none."""
    first = [
        (row.label, row.source, row.confidence) for row in list(final_labels(read_finished_run(own_run)))[:7]
    ]
    unsure = {row["file"]: row for row in read_rows(own_run)}["6.png"]
    assert first == [
        *(("ash", "trusted", 1.0), ("birch", "trusted", 1.0), ("cedar", "holdout", 1.0)),
        ("", "skipped", float(read_rows(own_run)[3]["confidence"])),
        *(("ash", "decided", 1.0), ("", "no_class", 0.0)),
        ("ash", unsure["action"], float(unsure["confidence"])),
    ]
    # A later run has decisions of an earlier one in its labels.csv; a trusted label is newer than a decision.
    lines = (own_run / "labels.csv").read_text().splitlines()
    lines[8:10] = [
        "7.png,ash,cedar,cedar,1.0,0.0,trusted,decided,0.2",
        "8.png,ash,,,0.0,0.0,outlier,decided,2.0",
    ]
    (own_run / "labels.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "d.csv").write_text("file,label\n0.png,cedar\n9.png,birch\n")
    rows = list(final_labels(read_finished_run(own_run), tmp_path / "d.csv"))
    assert [(rows[i].label, rows[i].source) for i in (0, 7, 8, 9)] == [
        *(("ash", "trusted"), ("cedar", "decided"), ("", "no_class"), ("birch", "decided"))
    ]


def test_a_policy_says_which_labels_are_written(own_run, tmp_path):
    """Sure ones, all, or those of people; what is left out is counted."""
    by_source = Counter(row.source for row in final_labels(read_finished_run(own_run)))
    for policy, without in (
        ("sure", {"unsure", "no_class", "skipped"}),
        ("all", {"no_class", "skipped"}),
        ("checked", {"unsure", "kept", "changed", "no_class", "skipped"}),
    ):
        found = export_labels(own_run, tmp_path / f"{policy}.csv", policy=policy)
        assert found.left_out == {source: n for source, n in by_source.items() if source in without}
        assert found.written == {source: n for source, n in by_source.items() if source not in without}
        assert len(labels_in(tmp_path / f"{policy}.csv")) == sum(found.written.values())
        assert "not measured: evaluation.json is not in its folder" in str(found)
    assert labels_in(tmp_path / "checked.csv") == {
        "0.png": "ash",
        "1.png": "birch",
        "2.png": "cedar",
        "4.png": "ash",
    }


def test_the_accuracy_of_each_policy_is_that_of_the_run(finished, without_holdout, tmp_path):
    """From evaluation.json, with the number of images that it was counted on."""
    found = finished.result.export_labels(tmp_path / "x.csv")
    figures, n = finished.result.facts["labels"], finished.result.evaluation["labels_cross_validated"].n
    assert found.accuracy["all"] == {**figures["accuracy"], "n": n}
    assert found.accuracy["sure"] == {**figures["accuracy_where_sure"], "n": round(n * figures["share_sure"])}
    share = figures["accuracy_where_sure"]
    line = next(line for line in str(found).splitlines() if "--policy sure" in line)
    assert f"{100 * share['estimate']:.1f} % ({100 * share['low']:.1f} to" in line
    write_json(tmp_path / "none.json", {})
    nothing = {**found.facts, "labels": {**figures, "accuracy": None, "accuracy_where_sure": None}}
    assert str(replace(found, facts=nothing)).endswith("not measured: the run has no trusted labels.")


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.parquet", "folders", "huggingface", "links"])
@pytest.mark.parametrize("policy", ["sure", "all"])
def test_what_is_written_is_read_back_to_the_same_labels(finished, small_data, tmp_path, name, policy):
    """As the noisy labels of the next run; labels such as 007 and NA stay what they are."""
    run = shutil.copytree(finished.out, tmp_path / "run")
    for file in ("labels.csv", "holdout.csv", "model/labels.json"):
        text = (run / file).read_text()
        (run / file).write_text(text.replace("ash", "007").replace("birch", "NA").replace("cedar", "=c d"))
    link = name == "links"
    kind = None if "." in name else "folders" if link else name
    found = export_labels(
        run, tmp_path / name, format=kind, policy=policy, link=link, excel_safe="csv" in name
    )
    expected = {
        row.file: row.label
        for row in final_labels(read_finished_run(run))
        if row.source in found.written and row.label
    }
    place, noisy = (tmp_path / name, None) if kind else (small_data.images, tmp_path / name)
    # NA usually stands for a missing label, so it has to be said that it is a class.
    options = assay.ReadOptions(follow_symlinks=link, class_map={"NA": "NA"})
    dataset = assay.read_dataset(place, noisy=noisy, options=options)
    words = [*dataset.classes, ""]
    read = {file: words[label] for file, label in zip(dataset.names, dataset.noisy, strict=True)}
    if kind:
        table = tmp_path / name / ("metadata.jsonl" if kind == "huggingface" else "files.csv")
        read_table = pl.read_ndjson if kind == "huggingface" else pl.read_csv
        columns = ["file_name" if kind == "huggingface" else "file", "original"]
        original = dict(read_table(table).select(columns).iter_rows())
        assert {*read} == {*original}
        read = {original[file]: label for file, label in read.items()}
        file, before = next(iter(original.items()))
        assert (tmp_path / name / file).read_bytes() == (small_data.images / before).read_bytes()
        assert (tmp_path / name / file).is_symlink() == link
    assert {file: label for file, label in read.items() if label} == expected
    assert len(expected) > 100


def test_images_of_an_archive_become_files(tmp_path, images, own_run):
    """Faults 25 and 27: names with folders, quotes and more; labels that are no names of folders."""
    names = tuple(
        f"{('a', 'b', 'B')[row % 3]}/x{row % 2}'ü \n.png" if row < 6 else f"{row}.png" for row in range(40)
    )
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for row, name in enumerate(names):
            archive.write(images / f"{row}.png", name)
    labels = ("a/b", "..", "CON")
    run = write_run(tmp_path / "zipped", names, labels, images=tmp_path / "images.zip")
    found = export_labels(run, tmp_path / "tree", format="folders", policy="all")
    assert {path.name for path in (tmp_path / "tree").iterdir()} == {"a%2Fb", "%2E%2E", "%43ON", "files.csv"}
    rows = pl.read_csv(tmp_path / "tree" / "files.csv", infer_schema=False)
    assert rows.height == sum(found.written.values()) == 39
    for file, label, original in rows.select("file", "label", "original").iter_rows():
        row = names.index(original)
        assert (tmp_path / "tree" / file).read_bytes() == (images / f"{row}.png").read_bytes()
        assert label == labels[row % 3]
    # The table has the labels themselves.
    dataset = assay.read_dataset(tmp_path / "tree", noisy=tmp_path / "tree" / "files.csv")
    assert {*dataset.classes} == {*labels}
    for kind in ("fiftyone", "label-studio"):
        with pytest.raises(UsageError, match=r"files of a folder, got some in .*images\.zip; unpack them"):
            export_labels(run, tmp_path / "x.json", format=kind)
    (tmp_path / "images.zip").unlink()
    with pytest.raises(UsageError, match=r"are no longer at .*: assay labels .* IMAGES"):
        export_labels(run, tmp_path / "other", format="folders")
    assert export_labels(run, tmp_path / "x.csv").written == export_labels(run, tmp_path / "y.csv").written


def test_an_image_that_is_gone_is_counted(own_run, tmp_path, images):
    """It is in no file, and the others are."""
    moved = shutil.copytree(images, tmp_path / "moved")
    (moved / "1.png").unlink()
    for kind, target in (("folders", "tree"), ("coco", "x.json")):
        found = export_labels(own_run, tmp_path / target, format=kind, images=moved)
        assert (found.unreadable, found.written["trusted"]) == ({"missing_image": 1}, 1)
        assert "Images that cannot be read now: missing_image 1." in str(found)
    assert "1.png" not in labels_in(tmp_path / "tree" / "files.csv").values()


def test_a_folder_of_labels_does_not_lie_among_the_images(own_run, images):
    """The next run would read its copies as images."""
    with pytest.raises(UsageError, match="expected a folder outside"):
        export_labels(own_run, images / "sorted", format="folders")
    assert not (images / "sorted").exists()


def test_coco_has_an_annotation_for_each_image(own_run, tmp_path):
    """Its parts refer to each other by id, and the box is the whole image."""
    write_json(
        own_run / "model" / "labels.json", {"labels": list(TITLES), "titles": ["Ash", "Birch", "Cedar"]}
    )
    found = export_labels(own_run, tmp_path / "x.json", format="coco")
    coco = json.loads((tmp_path / "x.json").read_text())
    names = {category["id"]: category["name"] for category in coco["categories"]}
    assert [*names.values()] == ["Ash", "Birch", "Cedar"]
    files = {image["id"]: image for image in coco["images"]}
    assert len(files) == len(coco["annotations"]) == sum(found.written.values())
    expected = {row.file: row.label for row in final_labels(read_finished_run(own_run))}
    for one in coco["annotations"]:
        image = files[one["image_id"]]
        assert expected[image["file_name"]] == names[one["category_id"]].lower()
        assert (one["bbox"], one["area"], one["iscrowd"]) == (
            [0, 0, image["width"], image["height"]],
            1024,
            0,
        )


def test_fiftyone_gets_every_image_with_its_fields(own_run, tmp_path, images):
    """Samples as its Dataset.from_json reads them: see docs/tools.md for what its library was tried on."""
    export_labels(own_run, tmp_path / "x.json", format="fiftyone")
    found = json.loads((tmp_path / "x.json").read_text())
    samples = {sample["file"]: sample for sample in found["samples"]}
    assert {*samples} == {*NAMES} - {"3.png"}
    assert {*found} == {"name", "media_type", "sample_fields", "info", "classes", "samples"}
    one = samples["4.png"]
    assert one["filepath"] == str(images / "4.png")
    assert one["corrected"] == {"_cls": "Classification", "label": "ash", "confidence": 1.0}
    assert one["noisy"] == {"_cls": "Classification", "label": "cedar"}
    assert (one["action"], one["label_quality"], one["mistakenness"]) == ("decided", 0.1, 0.9)
    assert "corrected" not in samples["5.png"]
    fields = {name for sample in samples.values() for name in sample} - {"filepath", "tags"}
    assert fields == {*found["sample_fields"]}


def test_label_studio_gets_predictions_and_what_people_decided(own_run, tmp_path, images):
    """Choices of its interface, a score, an annotation where a person gave a label; it is read back."""
    write_json(own_run / "model" / "labels.json", {"labels": list(TITLES), "titles": ["Ash", 'B"&', "Cedar"]})
    export_labels(own_run, tmp_path / "x.json", format="label-studio")
    tasks = {task["data"]["file"]: task for task in json.loads((tmp_path / "x.json").read_text())}
    assert {*tasks} == {*NAMES} - {"3.png"}
    first = next(task for task in tasks.values() if "predictions" in task)
    (prediction,) = first["predictions"]
    row = next(row for row in read_rows(own_run) if row["file"] == first["data"]["file"])
    assert (prediction["score"], prediction["model_version"]) == (float(row["confidence"]), "assay")
    assert prediction["result"] == [
        {
            "type": "choices",
            "from_name": "label",
            "to_name": "image",
            "value": {"choices": [row["corrected_label"]]},
        }
    ]
    assert first["data"]["image"] == f"/data/local-files/?d={str(images)[1:]}/{row['file']}"
    said = {name: task["annotations"][0] for name, task in tasks.items() if "annotations" in task}
    assert {name for name, one in said.items() if one["ground_truth"]} == {"0.png", "1.png", "2.png"}
    assert [said[f"{row}.png"]["was_cancelled"] for row in (4, 5, 6)] == [False, False, True]
    assert (tmp_path / "x.xml").read_text() == (
        '<View>\n  <Image name="image" value="$image"/>\n'
        '  <Choices name="label" toName="image" choice="single">\n'
        '    <Choice value="Ash" alias="ash"/>\n'
        '    <Choice value=\'B"&amp;\' alias="birch"/>\n'
        '    <Choice value="Cedar" alias="cedar"/>\n  </Choices>\n</View>\n'
    )
    decided = {row.name: row.after for row in read_decisions(tmp_path / "x.json")}
    assert decided == {
        "0.png": "ash",
        "1.png": "birch",
        "2.png": "cedar",
        "4.png": "ash",
        "5.png": "",
        "6.png": None,
    }
    # As Label Studio exports it once a person chose another class.
    task = tasks["10.png"]
    task["annotations"] = [
        {"id": 7, "completed_by": 1, "was_cancelled": False, "result": prediction["result"]}
    ]
    (tmp_path / "export.json").write_text(json.dumps([task]))
    rows = final_labels(read_finished_run(own_run), tmp_path / "export.json")
    (label,) = {row.label for row in rows if row.source == "decided"}
    assert label == prediction["result"][0]["value"]["choices"][0]


def test_a_run_in_shards_gives_the_labels_of_all_images(own_run, tmp_path, images):
    """From its parts, in their order; labels.csv has some of them only."""
    frame = pl.DataFrame(read_rows(own_run)).cast({"confidence": pl.Float64, "label_quality": pl.Float64})
    (own_run / "labels").mkdir()
    for part, rows in enumerate((frame[20:], frame[:20])):
        rows.write_parquet(own_run / "labels" / f"{part:05d}.parquet")
    lines = (own_run / "labels.csv").read_text().splitlines()
    (own_run / "labels.csv").write_text("\n".join(lines[:8]) + "\n")
    for target in ("x.csv", "x.jsonl", "x.parquet"):
        found = export_labels(own_run, tmp_path / target, policy="all")
        assert sum(found.written.values()) == 38
    assert next(iter(labels_in(tmp_path / "x.csv"))) == "20.png"
    export_labels(own_run, tmp_path / "tree", format="folders", policy="all")
    for file, original in pl.read_csv(tmp_path / "tree/files.csv").select("file", "original").iter_rows():
        assert (tmp_path / "tree" / file).read_bytes() == (images / original).read_bytes()


@pytest.mark.parametrize(("before", "after"), [("2.png", "x.png"), ("cedar", "larch")])
def test_a_holdout_of_another_run_is_refused(own_run, tmp_path, before, after):
    """A held-out image without its trusted label would get the run's."""
    text = (own_run / "holdout.csv").read_text()
    (own_run / "holdout.csv").write_text(text.replace(before, after))
    with pytest.raises(DataError, match=rf"holdout\.csv: '{after}' is not .* this run; run it again"):
        export_labels(own_run, tmp_path / "x.csv")


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("x.txt", {}, "--format: expected csv, jsonl, .*, got 'x.txt'"),
        ("x.json", {"format": "label-studio", "policy": "all"}, "--policy: expected none with label-studio"),
        ("x.csv", {"policy": "best"}, "--policy: expected sure, all, checked, got 'best'"),
        ("x.csv", {"link": True}, "--link: expected --format folders or huggingface"),
        ("out", {"format": "folders"}, "expected a new or an empty folder"),
    ],
)
def test_options_that_do_not_fit_are_refused(own_run, tmp_path, target, options, message):
    """Before anything is written."""
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match=message):
        export_labels(own_run, tmp_path / target, **options)
    assert sorted(tmp_path.rglob("*")) == before


def test_decisions_that_do_not_fit_are_refused(own_run, tmp_path):
    """Another class, or other images; the old file stays."""
    (tmp_path / "x.csv").write_text("before")
    for row, message in (
        ("7.png,larch", r"d\.csv: '7\.png' was decided to be 'larch', which is no class of the run \('ash'"),
        (
            "no.png,ash",
            r"d\.csv: none of its 1 decisions is of an image of the run, the first is of 'no\.png'",
        ),
    ):
        (tmp_path / "d.csv").write_text(f"file,label\n{row}\n")
        with pytest.raises(DataError, match=message):
            export_labels(own_run, tmp_path / "x.csv", decisions=tmp_path / "d.csv")
    assert (tmp_path / "x.csv").read_text() == "before"
    assert not [*tmp_path.glob(".*")]


def test_cleanlab_gets_labels_and_probabilities_out_of_fold(finished, tmp_path):
    """pred_probs.npy has a row for each image; classes without a label, skipped images and old runs."""
    found, rows = finished.result.to_cleanlab(), read_rows(finished.out)
    assert found.files == tuple(row["file"] for row in rows)
    assert found.pred_probs.shape == (240, 3)
    assert found.pred_probs.sum(axis=1) == pytest.approx(1)
    stored = np.load(finished.out / "pred_probs.npy", allow_pickle=False)
    assert (stored.dtype, stored.shape) == (np.float16, (240, 3))
    assert [found.classes[label] for label in found.labels] == [row["noisy_label"] for row in rows]
    issues = [row["file"] for row in rows if row["noisy_label"] != row["corrected_label"]]
    assert [found.files[place] for place in np.flatnonzero(found.is_issue)] == issues
    assert sorted(found.ranked.tolist()) == np.flatnonzero(found.is_issue).tolist()
    assert (np.diff(found.label_quality[found.ranked]) >= 0).all()
    # What was not learned from an image's label must not know it: the classes are drawn, and easily seen.
    right = found.pred_probs.argmax(axis=1) == found.labels
    assert right.mean() < 0.9
    run = shutil.copytree(finished.out, tmp_path / "run")
    lines = (run / "labels.csv").read_text().splitlines()
    cells = lines[1].split(",")
    lines[1] = ",".join([cells[0], "", *cells[2:]])
    (run / "labels.csv").write_text("\n".join(lines) + "\n")
    assert load_run(run).to_cleanlab().rows[0] == 1
    np.save(run / "pred_probs.npy", stored[1:], allow_pickle=False)
    with pytest.raises(DataError, match="expected 240 rows of 3 classes, got"):
        load_run(run).to_cleanlab()
    (run / "pred_probs.npy").unlink()
    with pytest.raises(DataError, match=r"expected the out-of-fold probabilities of the run .*--overwrite"):
        load_run(run).to_cleanlab()
