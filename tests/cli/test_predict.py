"""assay predict: new images to rows."""

import csv
import io
import json
import shutil

import polars as pl
import pytest

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
    given = assay("predict", finished, new, "-o", tmp_path / "rows.csv")
    assert (given.code, given.out) == (0, "")
    assert given.err == "1 of 6 images could not be used; their status says why\n"
    rows = list(csv.reader((tmp_path / "rows.csv").read_text().splitlines()))
    assert ",".join(rows[0]) == HEADER
    assert [row[0] for row in rows[1:]] == ["0.png", "1.png", "2.png", "3.png", "4.png", "=cmd().png"]
    classes = ("ash", "birch", "cedar")
    assert [row[1] for row in rows[1:]] == [classes[i] for i in small_data.truth[:5]] + [""]
    assert [row[3] for row in rows[1:]] == ["ok"] * 5 + ["empty_file"]


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
    given = assay("predict", finished, tmp_path / "nowhere", "-o", out)
    assert given.code == 2
    assert message in given.err


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
        given = assay("predict", place, new)
        assert (given.code, given.out) == (3, "")
        assert word in given.err
        assert "Traceback" not in given.err


def test_an_empty_folder_ends_with_3(assay, finished, tmp_path):
    """Where no image is nothing can be predicted."""
    (tmp_path / "empty").mkdir()
    given = assay("predict", finished, tmp_path / "empty")
    assert given.code == 3
    assert given.err == f"assay: expected images in {tmp_path / 'empty'}, got none\n"


def test_a_model_folder_will_do(assay, finished, new, tmp_path):
    """The run folder or the model in it, wherever it was copied."""
    shutil.copytree(finished / "model", tmp_path / "mine")
    for place, name in ((finished, "run.csv"), (tmp_path / "mine", "model.csv")):
        assert assay("predict", place, new, "-o", tmp_path / name, "-q").code == 0
    assert (tmp_path / "run.csv").read_bytes() == (tmp_path / "model.csv").read_bytes()
