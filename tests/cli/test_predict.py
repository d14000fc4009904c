"""assay predict: new images to rows."""

import io
import json
import shutil
import struct
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from small_runs import CLASSES, draw_data, run_assay
from written import rows_of

from assay.cli.app import run_app
from assay.cli.options import ImageOptions
from assay.cli.predict import whereabouts
from assay.data.dataset import Skipped
from assay.data.sources import FolderSource
from assay.predict.runtime import Runtime


@pytest.fixture
def new(small_data, tmp_path):
    """Five good images and one that is none, under a name that a spreadsheet may run."""
    folder = tmp_path / "new"
    folder.mkdir()
    for row in range(5):
        shutil.copy(small_data.images / f"{row}.png", folder / f"{row}.png")
    (folder / "=cmd().png").write_bytes(b"")
    return folder


@pytest.fixture
def rows_on_stdout(capfdbinary):
    """The bytes that a command writes to stdout."""

    def give(*arguments):
        assert run_app([str(argument) for argument in arguments]) == 0
        return capfdbinary.readouterr().out

    return give


def test_rows_go_to_a_file(assay, finished, new, small_data):
    """There is one row an image, in order; skipped ones have their reason, and code 4 under ``--strict``."""
    found = assay("predict", finished, new, "-o", "rows.csv")
    assert (found.code, found.out) == (0, "")
    assert found.err == "1 of 6 images were skipped, see their status: 1 empty_file\n"
    rows = rows_of("rows.csv")
    assert list(rows[0]) == ["file", "label", "probability", "status"]
    assert [row["file"] for row in rows] == ["0.png", "1.png", "2.png", "3.png", "4.png", "=cmd().png"]
    assert [row["label"] for row in rows] == [CLASSES[i] for i in small_data.truth[:5]] + [""]
    assert [row["status"] for row in rows] == ["ok"] * 5 + ["empty_file"]
    assert assay("predict", finished, new, "-o", "strict.csv", "--strict").code == 4
    assert rows_of("strict.csv") == rows


def test_pillow_writes_nothing(finished, new):
    """A TIFF with a tag of more bytes than the file is used, and Pillow's warning is none of ours."""
    file = io.BytesIO()
    Image.new("RGB", (32, 32)).save(file, "TIFF", description="twenty letters long.")
    tag = struct.pack("<HHI", 270, 2, 21)
    assert tag in file.getvalue()
    (new / "6.tif").write_bytes(file.getvalue().replace(tag, struct.pack("<HHI", 270, 2, 2**20)))
    done = run_assay(["predict", finished, new, "-o", new.parent / "rows.csv", "-q"])
    assert (done.returncode, done.stderr) == (0, "")
    assert rows_of(new.parent / "rows.csv")[-2]["status"] == "ok"


def test_unusual_images_are_reported(assay, finished, new, tmp_path):
    """Links that were not followed, images of one colour, and what helps where one was skipped."""
    (tmp_path / "elsewhere").mkdir()
    (new / "linked").symlink_to(tmp_path / "elsewhere")
    Image.new("RGB", (32, 32), "red").save(new / "0.png")
    (new / "1.png").write_bytes((new / "1.png").read_bytes()[:100])
    found = assay("predict", finished, new, "-o", "rows.csv")
    links, colour, skipped = found.err.splitlines()
    assert "--follow-symlinks" in links
    assert "1 image of a single colour" in colour
    assert skipped.startswith("2 of 6 images were skipped, see their status: 1 truncated (")
    assert "--truncated accept" in skipped
    assert assay("predict", finished, new, "-o", "rows.csv", "--quiet").err == ""


def test_each_format_has_the_same_rows(rows_on_stdout, finished, new, here):
    """By the file's name or ``--format``; on stdout too; formulas are marked on request (fault 35)."""
    for name in ("rows.csv", "rows.jsonl", "rows.parquet"):
        rows_on_stdout("predict", finished, new, "-o", name, "-q")
    lines = [json.loads(line) for line in (here / "rows.jsonl").read_text().splitlines()]
    assert lines == pl.read_parquet("rows.parquet").to_dicts()
    as_text = [{key: "" if v is None else str(v) for key, v in row.items()} for row in lines]
    assert as_text == rows_of("rows.csv")
    for more, file in (
        (("--format", "jsonl"), "rows.jsonl"),
        (("-o", "-"), "rows.csv"),
        ((), "rows.csv"),
    ):
        assert rows_on_stdout("predict", finished, new, "-q", *more) == (here / file).read_bytes()
    rows_on_stdout("predict", finished, new, "-o", "x.txt", "--format", "csv", "--excel-safe")
    plain, safe = ((here / name).read_text().splitlines() for name in ("rows.csv", "x.txt"))
    assert (plain[-1], safe[-1]) == ("=cmd().png,,,empty_file", "'=cmd().png,,,empty_file,true")
    assert [f"{plain[0]},excel_safe", *(f"{row},true" for row in plain[1:-1])] == safe[:-1]


def test_what_is_no_model_ends_with_3(refused, new, finished, run, tmp_path):
    """A missing folder, one without a model, a pickle, a model with a changed byte (faults 42, 46)."""
    (tmp_path / "model.pkl").write_bytes(b"\x80\x04.")
    weights = run / "model" / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    (tmp_path / "empty").mkdir()
    for place, images, message in [
        (tmp_path / "nowhere", new, "manifest.json"),
        (new, new, "manifest.json"),
        (tmp_path / "model.pkl", new, "never opened"),
        (run, new, "sha256"),
        (finished, tmp_path / "empty", f"expected images in {tmp_path / 'empty'}, got none"),
    ]:
        refused(3, message, "predict", place, images)
    refused(3, "", "predict", tmp_path, new, "--all-systems")


def test_a_model_folder_will_do(rows_on_stdout, finished, new, tmp_path):
    """The run's folder or the model in it, wherever it was copied."""
    shutil.copytree(finished / "model", tmp_path / "mine")
    run, model = (rows_on_stdout("predict", place, new, "-q") for place in (finished, tmp_path / "mine"))
    assert run == model


def test_unsure_images_get_no_label(assay, refused, finished, small_data):
    """Their status is unsure, their probability stays; they are not skipped, so strict does not mind."""
    assert assay("predict", finished, small_data.images, "-o", "all.csv").code == 0
    more = ("--min-confidence", "1", "--strict")
    assert assay("predict", finished, small_data.images, "-o", "sure.csv", *more).code == 0
    for row, found in zip(rows_of("all.csv"), rows_of("sure.csv"), strict=True):
        assert found in (row, row | {"label": "", "status": "unsure"})
    refused(2, "--min-confidence", "predict", finished, small_data.images, "--min-confidence", "1.1")


def test_sets_hold_the_labels_that_may_be_right(assay, refused, finished, new, small_data):
    """A column of labels, the most probable first; more labels for more coverage."""
    sizes = []
    for share in ("0.5", "0.95"):
        assert assay("predict", finished, small_data.images, "-o", "rows.csv", "--coverage", share).code == 0
        rows = rows_of("rows.csv")
        assert all(row["set"].split("|")[0] == row["label"] for row in rows)
        sizes.append(sum(len(row["set"].split("|")) for row in rows))
    assert sizes[0] <= sizes[1]
    assay("predict", finished, new, "-o", "rows.jsonl", "--coverage", "0.9")
    lines = [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()]
    assert [line["set"] is None for line in lines] == [False] * 5 + [True]
    message = "--coverage: expected more than 0 and at most 0.98"
    refused(2, message, "predict", finished, new, "--coverage", "0.9999")


def test_classes_may_be_mixed_otherwise_than_in_training(assay, finished, new, here):
    """Labels change towards the frequent class; an exported file has the prior of training too."""
    (here / "prior.csv").write_text("class,share\nash,0\nbirch,1\ncedar,0\n")
    assert assay("export", finished, "-o", "model.onnx", "--precision", "float32", "-q").code == 0
    for model in (finished, "model.onnx"):
        assert assay("predict", model, new, "-o", "rows.csv", "--class-prior", "prior.csv").code == 0
        rows = rows_of("rows.csv")
        assert [row["label"] for row in rows] == ["birch"] * 5 + [""]
        assert [row["probability"] for row in rows] == ["1.0"] * 5 + [""]
    assert assay("predict", finished, new, "-o", "rows.csv", "--class-prior", "uniform").code == 0
    assert {row["label"] for row in rows_of("rows.csv")} > {"birch"}


def test_the_mix_of_classes_is_estimated_from_all_images(assay, finished, small_data, here):
    """The estimate is shown, and rows are those of a table with the same shares."""
    folder = here / "many"
    folder.mkdir()
    for row in [*np.flatnonzero(small_data.truth == 0)[:40], *np.flatnonzero(small_data.truth == 2)[:5]]:
        shutil.copy(small_data.images / f"{row}.png", folder)
    found = assay("predict", finished, folder, "-o", "rows.csv", "--class-prior", "estimate")
    assert found.err.startswith("estimated class shares: 'ash' 8")
    rows = rows_of("rows.csv")
    right = sum(row["label"] == CLASSES[small_data.truth[int(row["file"].split(".")[0])]] for row in rows)
    assert (len(rows), right >= 43) == (45, True)
    again = assay("predict", finished, folder, "--class-prior", "estimate", "-q")
    assert again.out == (here / "rows.csv").read_text()


def test_a_prior_that_cannot_be_is_refused(refused, finished, new, here):
    """Before any image is read: exit 3 for the table, 2 for flags that do not go together."""
    (here / "prior.csv").write_text("class,share\nash,0.5\nbirch,0.4\ncedar,0.2\n")
    refused(3, "shares that sum to 1, got 1.1", "predict", finished, new, "--class-prior", "prior.csv")
    refused(3, "cannot read unifrm", "predict", finished, new, "--class-prior", "unifrm")
    both = ("--class-prior", "uniform", "--coverage", "0.9")
    refused(2, "--coverage: expected no --class-prior, got both", "predict", finished, new, *both)
    refused(2, "--class-prior: expected one model", "predict", finished, new, *both[:2], "--all-systems")


def test_paths_may_come_on_stdin(assay, finished, small_data, new, monkeypatch):
    """One a line; the rows have the names that were given."""
    paths = [str(new / "2.png"), str(new / "0.png"), str(new / "gone.png")]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("\n".join(paths).encode())))
    assert assay("predict", finished, "-", "-o", "rows.csv").code == 0
    rows = rows_of("rows.csv")
    assert [row["file"] for row in rows] == paths
    assert [row["label"] for row in rows] == [*(CLASSES[small_data.truth[i]] for i in (2, 0)), ""]


def test_images_may_be_in_a_column_or_behind_links(assay, refused, finished, new, tmp_path):
    """``--path-col`` names a column of Parquet; ``--follow-symlinks`` leaves the folder (fault 20)."""
    stored = tmp_path / "new.parquet"
    pl.DataFrame({"photo": [(new / "1.png").read_bytes()], "mask": [b"x"]}).write_parquet(stored)
    refused(3, "--path-col", "predict", finished, stored)
    assert assay("predict", finished, stored, "--path-col", "photo").out.splitlines()[1].endswith(",ok")
    (new / "6.png").symlink_to(tmp_path / "far.png")
    shutil.copy(new / "1.png", tmp_path / "far.png")
    assert "6.png,,,outside_root" in assay("predict", finished, new).out.splitlines()
    followed = assay("predict", finished, new, "--follow-symlinks").out.splitlines()
    assert sum(row.endswith(",ok") for row in followed) == 6


HEADER_OF_ALL = "Index,Baseline,CNN 1,CNN 2,Model I,Model II,Assay"


@pytest.fixture
def numbered(tmp_path):
    """Twelve new images, 0.png to 11.png, and their labels."""
    data = draw_data(tmp_path / "numbered", 12, seed=5)
    return data.images, [('ash, "old"', "birch", "cedar")[label] for label in data.truth]


def test_all_systems_write_the_notebooks_file(assay, refused, lineup, numbered):
    """A column for each model, or for those chosen, and a row for each image in natural order."""
    images, truth = numbered
    command = ("predict", lineup, images, "--all-systems", "-o", "rows.csv")
    found = assay(*command)
    assert (found.code, found.out, found.err) == (0, "", "")
    rows = rows_of("rows.csv")
    assert ",".join(rows[0]) == HEADER_OF_ALL
    assert [row["Index"] for row in rows] == [str(row) for row in range(12)]
    for title in ("CNN 1", "Model II", "Assay"):
        assert sum(row[title] == label for row, label in zip(rows, truth, strict=True)) > 9
    assert 'ash, "old"' in {row["Assay"] for row in rows}
    assert assay(*command, "--columns", "Index, Baseline,model-1, Model II").code == 0
    assert [*rows_of("rows.csv")[0]] == ["Index", "Baseline", "Model I", "Model II"]
    refused(2, HEADER_OF_ALL.replace(",", ", "), *command, "--columns", "Index,Model 2")


def test_all_systems_keep_every_row_apart(assay, lineup, numbered):
    """Cells of a skipped image are empty; Index has whole names where others would be equal."""
    images, _ = numbered
    (images / "3.png").write_bytes(b"")
    command = ["predict", lineup, images, "--all-systems", "-o", "rows.csv"]
    found = assay(*command)
    assert (found.code, found.err) == (0, "1 of 12 images were skipped; their cells are empty\n")
    assert Path("rows.csv").read_text().splitlines()[4] == "3,,,,,,"
    assert assay(*command, "--strict").code == 4
    (images / "more").mkdir()
    shutil.copy(images / "1.png", images / "more" / "1.png")
    assert assay(*command).err.startswith("The column Index has whole file names")
    index = [row["Index"] for row in rows_of("rows.csv")]
    assert (len(index), len(set(index))) == (13, 13)
    assert {"1.png", "more/1.png"} <= set(index)


@pytest.fixture
def many(small_data, tmp_path, monkeypatch):
    """Images of which one is none, read in small parts that are brought to disk soon."""
    monkeypatch.setattr("assay.data.loader.BATCH", 16)
    monkeypatch.setattr("assay.data.write.SAVED_EVERY", 32)
    shutil.copytree(small_data.images, tmp_path / "many")
    (tmp_path / "many" / "3.png").write_bytes(b"")
    return tmp_path / "many"


@pytest.fixture
def interrupted(assay, finished, many, here, monkeypatch):
    """The rows of a prediction that was interrupted after some of them."""
    real, seen = Runtime.probabilities, []

    def dying(self, images):
        seen.append(len(images))
        if sum(seen) > 100:
            raise KeyboardInterrupt
        return real(self, images)

    with monkeypatch.context() as patch:
        patch.setattr(Runtime, "probabilities", dying)
        assert assay("predict", finished, many, "-o", "rows.csv", "-q").code == 130
    return here / "rows.csv"


def test_an_interrupted_prediction_resumes(assay, finished, many, interrupted):
    """It ends with the bytes of an uninterrupted one; skipped images count on (fault 47)."""
    assert assay("predict", finished, many, "-o", "whole.csv", "-q").code == 0
    found = assay("predict", finished, many, "-o", interrupted, "--strict")
    assert found.code == 4
    assert "resuming after 96 rows" in found.err
    assert "1 of 240 images were skipped" in found.err
    assert interrupted.read_bytes() == Path("whole.csv").read_bytes()


@pytest.mark.parametrize("change", ["place", "flags", "file"])
def test_rows_of_another_command_are_not_resumed(assay, finished, many, interrupted, tmp_path, change):
    """Another folder with the same names, other options, or a changed image start anew."""
    images = shutil.copytree(many, tmp_path / "other") if change == "place" else many
    if change == "file":
        shutil.copyfile(many / "5.png", many / "4.png")
    more = ["--min-confidence", "1"] if change == "flags" else []
    found = assay("predict", finished, images, "-o", interrupted, *more)
    assert found.code == 0
    assert "resuming" not in found.err
    assert assay("predict", finished, images, "-o", "whole.csv", *more).code == 0
    assert interrupted.read_bytes() == Path("whole.csv").read_bytes()


def test_which_images_are_meant_is_part_of_the_command(here):
    """Other image options, and an archive that was changed, do not resume old rows."""
    archive = here / "new.zip"
    archive.write_bytes(b"one")
    plain, *others = ImageOptions(), ImageOptions(truncated="accept"), ImageOptions(max_pixels=9)
    for place in (Path("-"), archive, here):
        assert len({whereabouts(place, one, []) for one in (plain, *others)}) == 3
    before = whereabouts(archive, plain, ["1.png"])
    archive.write_bytes(b"other")
    assert whereabouts(archive, plain, ["1.png"]) != before


def test_images_that_were_unreadable_for_a_while_are_read_again(
    assay, finished, many, interrupted, monkeypatch
):
    """Rows of a whole part that nobody could read are not kept; one such image among others is."""
    read = FolderSource.read

    def gone(self, index):
        if index == 230:
            raise KeyboardInterrupt
        return Skipped("missing") if index >= 128 or index == 3 else read(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(FolderSource, "read", gone)
        assert assay("predict", finished, many, "-o", interrupted, "-q").code == 130
    found = assay("predict", finished, many, "-o", interrupted)
    assert "resuming after 128 rows" in found.err
    assert "1 of 240 images were skipped" in found.err
