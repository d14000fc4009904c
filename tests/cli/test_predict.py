"""assay predict: new images to rows."""

import csv
import io
import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from PIL import Image
from small_runs import CLASSES, draw_data

from assay.cli.app import run_app

HEADER = "name,label,probability,status"


@pytest.fixture
def new(small_data, tmp_path):
    """Five good images and one that is none, under names that a spreadsheet may run."""
    folder = tmp_path / "new"
    folder.mkdir()
    for row in range(5):
        shutil.copy(small_data.images / f"{row}.png", folder / f"{row}.png")
    (folder / "=cmd().png").write_bytes(b"")
    return folder


@pytest.fixture
def rows_on_stdout(capfdbinary):
    """What a command writes to stdout as bytes."""

    def give(*arguments):
        code = run_app([str(argument) for argument in arguments])
        return code, capfdbinary.readouterr().out

    return give


def test_rows_go_to_a_file(assay, finished, new, tmp_path, small_data):
    """One row an image, in order, and a line that says how many have no label."""
    noisy = assay("predict", finished, new, "-o", tmp_path / "rows.csv")
    assert (noisy.code, noisy.out) == (0, "")
    assert noisy.err == "1 of 6 images could not be used, see their status: 1 empty_file\n"
    rows = list(csv.reader((tmp_path / "rows.csv").read_text().splitlines()))
    assert ",".join(rows[0]) == HEADER
    assert [row[0] for row in rows[1:]] == ["0.png", "1.png", "2.png", "3.png", "4.png", "=cmd().png"]
    classes = ("ash", "birch", "cedar")
    assert [row[1] for row in rows[1:]] == [classes[i] for i in small_data.truth[:5]] + [""]
    assert [row[3] for row in rows[1:]] == ["ok"] * 5 + ["empty_file"]


def test_what_is_unusual_about_new_images_is_said(assay, finished, new, tmp_path):
    """Folders that could not be looked into, images of one colour, and what helps where one was skipped."""
    (tmp_path / "elsewhere").mkdir()
    (new / "linked").symlink_to(tmp_path / "elsewhere")
    Image.new("RGB", (32, 32), "red").save(new / "0.png")
    (new / "1.png").write_bytes((new / "1.png").read_bytes()[:100])
    command = ("predict", finished, new, "-o", tmp_path / "rows.csv")
    noisy = assay(*command)
    assert noisy.err.splitlines() == [
        "did not follow 1 link: outside_root (links that leave the folder: --follow-symlinks)",
        "1 image of one colour",
        "2 of 6 images could not be used, see their status: "
        "1 truncated (what there is of cut files: --truncated accept), 1 empty_file",
    ]
    assert assay(*command, "--quiet").err == ""


@pytest.mark.parametrize("out", [[], ["-o", "-"]])
def test_rows_go_to_stdout(rows_on_stdout, finished, new, tmp_path, out):
    """Without a file, or with -, the same bytes are on stdout."""
    code, text = rows_on_stdout("predict", finished, new, "--quiet", *out)
    assert code == 0
    run_app(["predict", str(finished), str(new), "-o", str(tmp_path / "rows.csv"), "--quiet"])
    assert text == (tmp_path / "rows.csv").read_bytes()


def test_each_format_has_the_same_rows(rows_on_stdout, finished, new, tmp_path):
    """CSV, JSON lines and Parquet, told by the name or by ``--format``."""
    for name in ("rows.csv", "rows.jsonl", "rows.parquet"):
        assert run_app(["predict", str(finished), str(new), "-o", str(tmp_path / name), "-q"]) == 0
    plain = list(csv.DictReader((tmp_path / "rows.csv").read_text().splitlines()))
    lines = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    frame = pl.read_parquet(tmp_path / "rows.parquet").to_dicts()
    assert lines == frame
    assert [{k: "" if v is None else str(v) for k, v in row.items()} for row in lines] == plain
    _, text = rows_on_stdout("predict", finished, new, "--format", "jsonl", "-q")
    assert text == (tmp_path / "rows.jsonl").read_bytes()
    assert (
        run_app(["predict", str(finished), str(new), "-o", str(tmp_path / "x.txt"), "--format", "csv"]) == 0
    )
    assert (tmp_path / "x.txt").read_bytes() == (tmp_path / "rows.csv").read_bytes()


def test_formulas_are_marked_when_asked(rows_on_stdout, finished, new):
    """``--excel-safe`` puts a quote before what a spreadsheet would run."""
    _, plain = rows_on_stdout("predict", finished, new, "-q")
    _, safe = rows_on_stdout("predict", finished, new, "-q", "--excel-safe")
    assert next(csv.reader(io.StringIO(plain.decode().splitlines()[-1])))[0] == "=cmd().png"
    assert next(csv.reader(io.StringIO(safe.decode().splitlines()[-1])))[0] == "'=cmd().png"


def test_skipped_images_end_with_4_when_strict(assay, finished, new, tmp_path):
    """The rows are written all the same."""
    assert assay("predict", finished, new, "-o", tmp_path / "rows.csv", "--strict").code == 4
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 7


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("rows.txt", "--out: expected a name ending in .csv, .parquet, .jsonl, got rows.txt; or --format"),
        (".", "--out: expected a file, got the folder .; name a file in it"),
        ("nowhere/rows.csv", "--out: expected a file in a folder that is there, got nowhere/rows.csv"),
    ],
)
def test_a_place_that_cannot_be_is_refused_before_the_work(assay, finished, tmp_path, out, message):
    """The name is judged before any image is looked for."""
    noisy = assay("predict", finished, tmp_path / "nowhere", "-o", out)
    assert noisy.code == 2
    assert message in noisy.err


def test_a_model_that_is_none_ends_with_3(assay, new, finished, tmp_path):
    """A folder that is not there, one without a model, a pickle, and a model with a changed byte."""
    (tmp_path / "model.pkl").write_bytes(b"\x80\x04.")
    shutil.copytree(finished, tmp_path / "changed")
    with (tmp_path / "changed" / "model" / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    for place, word in [
        (tmp_path / "nowhere", "manifest.json"),
        (new, "manifest.json"),
        (tmp_path / "model.pkl", "never opened"),
        (tmp_path / "changed", "sha256"),
    ]:
        noisy = assay("predict", place, new)
        assert (noisy.code, noisy.out) == (3, "")
        assert word in noisy.err
        assert "Traceback" not in noisy.err


def test_an_empty_folder_ends_with_3(assay, finished, tmp_path):
    """Where no image is nothing can be predicted."""
    (tmp_path / "empty").mkdir()
    noisy = assay("predict", finished, tmp_path / "empty")
    assert noisy.code == 3
    assert noisy.err == f"assay: expected images in {tmp_path / 'empty'}, got none\n"


def test_a_model_folder_will_do(assay, finished, new, tmp_path):
    """The run folder or the model in it, wherever it was copied."""
    shutil.copytree(finished / "model", tmp_path / "mine")
    for place, name in ((finished, "run.csv"), (tmp_path / "mine", "model.csv")):
        assert assay("predict", place, new, "-o", tmp_path / name, "-q").code == 0
    assert (tmp_path / "run.csv").read_bytes() == (tmp_path / "model.csv").read_bytes()


HEADER_OF_ALL = "Index,Baseline,CNN 1,CNN 2,Model I,Model II,Assay"


@pytest.fixture
def numbered(tmp_path):
    """Twelve new images, 0.png to 11.png, and their labels."""
    data = draw_data(tmp_path / "numbered", 12, seed=5)
    return data.images, [('ash, "old"', "birch", "cedar")[label] for label in data.truth]


def test_all_recipes_write_the_notebooks_file(assay, lineup, numbered, tmp_path):
    """A column for each model, a row for each image in natural order, the labels as they came in."""
    images, truth = numbered
    noisy = assay("predict", lineup, images, "--all-systems", "-o", tmp_path / "label_prediction.csv")
    assert (noisy.code, noisy.out, noisy.err) == (0, "", "")
    text = (tmp_path / "label_prediction.csv").read_text()
    assert text.splitlines()[0] == HEADER_OF_ALL
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["Index"] for row in rows] == [str(row) for row in range(12)]
    for title in ("CNN 1", "Model II", "Assay"):
        assert sum(row[title] == label for row, label in zip(rows, truth, strict=True)) > 9
    assert '"ash, ""old"""' in text


def test_columns_of_all_recipes_are_chosen(rows_on_stdout, lineup, numbered):
    """The notebook's own four, by title or id, with blanks or without, also on stdout."""
    images, _ = numbered
    code, text = rows_on_stdout(
        "predict", lineup, images, "--all-systems", "--columns", "Index, Baseline,model-1, Model II", "-q"
    )
    assert code == 0
    lines = text.decode().splitlines()
    assert (lines[0], len(lines)) == ("Index,Baseline,Model I,Model II", 13)


def test_all_recipes_keep_the_row_of_a_skipped_image(assay, lineup, numbered, tmp_path):
    """Its cells are empty, a line says how many there are, and under ``--strict`` the command ends with 4."""
    images, _ = numbered
    (images / "3.png").write_bytes(b"")
    command = ["predict", lineup, images, "--all-systems", "-o", tmp_path / "rows.csv"]
    noisy = assay(*command)
    assert (noisy.code, noisy.err) == (0, "1 of 12 images could not be used; their cells are empty\n")
    assert (tmp_path / "rows.csv").read_text().splitlines()[4] == "3,,,,,,"
    assert assay(*command, "--strict").code == 4


def test_all_recipes_tell_images_of_one_stem_apart(assay, lineup, numbered, tmp_path):
    """The index is the whole name then, and a line says so."""
    images, _ = numbered
    (images / "more").mkdir()
    shutil.copy(images / "1.png", images / "more" / "1.png")
    noisy = assay("predict", lineup, images, "--all-systems", "-o", tmp_path / "rows.csv")
    assert noisy.err.startswith("Index has the whole names: without folder and ending some images would have")
    index = [row["Index"] for row in csv.DictReader((tmp_path / "rows.csv").read_text().splitlines())]
    assert (len(index), len(set(index))) == (13, 13)
    assert {"1.png", "more/1.png"} <= set(index)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--all-systems", "--columns", "Index,Model 2"], f"out has {HEADER_OF_ALL.replace(',', ', ')}"),
        (["--columns", "Index,Assay"], "--columns: it picks among the models of --all-systems"),
    ],
)
def test_columns_that_cannot_be_end_with_2(assay, lineup, numbered, flags, message):
    """A name that is no column, or columns of one model alone."""
    noisy = assay("predict", lineup, numbered[0], *flags)
    assert (noisy.code, noisy.out) == (2, "")
    assert message in noisy.err


def test_all_recipes_need_a_comparison(assay, numbered, tmp_path):
    """A folder without models is no comparison."""
    noisy = assay("predict", tmp_path, numbered[0], "--all-systems")
    assert noisy.code == 3
    assert "expected the folder of a comparison, with the models of its recipes" in noisy.err


def test_unsure_images_get_no_label(assay, finished, small_data):
    """Their status says so, their probability stays; they are not skipped, so strict does not mind."""
    asked = ("--min-confidence", "1", "--strict")
    assert assay("predict", finished, small_data.images, "-o", "all.csv").code == 0
    assert assay("predict", finished, small_data.images, "-o", "sure.csv", *asked).code == 0
    for row, found in zip(rows_of("all.csv"), rows_of("sure.csv"), strict=True):
        assert found in (row, row | {"label": "", "status": "unsure"})
    noisy = assay("predict", finished, small_data.images, "--min-confidence", "1.1")
    assert (noisy.code, "--min-confidence" in noisy.err) == (2, True)


def rows_of(file):
    return list(csv.DictReader(Path(file).read_text(encoding="utf-8").splitlines()))


def test_sets_hold_the_labels_that_may_be_right(assay, finished, new, small_data):
    """A column of labels, the likeliest first; empty where there is no image; more for more coverage."""
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
    noisy = assay("predict", finished, new, "--coverage", "0.9999")
    assert noisy.code == 2
    assert "--coverage: expected more than 0 and at most 0.98" in noisy.err


def test_paths_may_come_on_stdin(assay, finished, small_data, new, monkeypatch):
    """One a line; the rows have the names that were given."""
    paths = [str(new / "2.png"), str(new / "0.png"), str(new / "gone.png")]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("\n".join(paths).encode())))
    assert assay("predict", finished, "-", "-o", "rows.csv").code == 0
    rows = rows_of("rows.csv")
    assert [row["name"] for row in rows] == paths
    assert [row["label"] for row in rows] == [*(CLASSES[small_data.truth[i]] for i in (2, 0)), ""]


def test_images_are_found_as_they_are_told(assay, finished, new, tmp_path):
    """A column of an unusual name in Parquet; links that leave the folder."""
    stored = tmp_path / "new.parquet"
    pl.DataFrame({"photo": [(new / "1.png").read_bytes()], "mask": [b"x"]}).write_parquet(stored)
    refused = assay("predict", finished, stored)
    assert refused.code == 3
    assert refused.err.endswith("photo, mask; name it with --path-col\n")
    assert assay("predict", finished, stored, "--path-col", "photo").out.splitlines()[1].endswith(",ok")
    (new / "6.png").symlink_to(tmp_path / "far.png")
    shutil.copy(new / "1.png", tmp_path / "far.png")
    plain = assay("predict", finished, new).out.splitlines()
    assert "6.png,,,outside_root" in plain
    followed = assay("predict", finished, new, "--follow-symlinks").out.splitlines()
    assert sum(row.endswith(",ok") for row in followed) == 6
