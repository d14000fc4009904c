"""assay labels: corrected labels for other programs, and copies of the user's own label file."""

import pytest
from review_runs import draw_images, write_reviewed_run, write_run
from written import change_facts, rows_of


@pytest.fixture
def images(tmp_path):
    draw_images(tmp_path / "images", [f"{row}.png" for row in range(40)])
    return tmp_path / "images"


@pytest.fixture
def run(tmp_path, images):
    """A run of which three images were reviewed."""
    return write_reviewed_run(tmp_path / "out", images)


def test_it_says_what_was_written_and_how_good_it_is(assay, finished, here):
    """Counts on stdout with the accuracy of both policies; warnings of the run on stderr, unless quiet."""
    found = assay("labels", finished, "-o", "x.csv")
    first, title, *rows = found.out.splitlines()
    n = len(rows_of(here / "x.csv"))
    assert first.startswith(f"{n} labels in x.csv: trusted 96 · holdout 24 · kept ")
    assert title == "Right labels, measured on trusted images out of fold:"
    names = ["where the run is sure (--policy sure)", "everywhere (--policy all)", "noisy labels"]
    assert [row[2:40].strip() for row in rows] == names
    assert all("n = " in row for row in rows)
    assert (found.code, "warning of the run: " in found.err) == (0, True)
    assert assay("labels", finished, "-o", "y.csv", "-q").err == ""


def test_the_formats_of_the_ending_and_of_the_flag(assay, run, here):
    """A folder may be given with a slash at its end."""
    for target, flags in (
        ("x.parquet", []),
        ("tree/", ["--format", "folders"]),
        ("x", ["--format", "jsonl"]),
    ):
        assert assay("labels", run, "-o", target, *flags).code == 0
    assert {path.name for path in (here / "tree").iterdir()} == {"ash", "birch", "cedar", "files.csv"}
    assert (here / "x").read_text().startswith('{"file": "0.png", "label": "ash", ')


def test_missing_images_have_an_exit_code(assay, run, images):
    """4, as wherever images are skipped."""
    (images / "1.png").unlink()
    found = assay("labels", run, "-o", "tree", "--format", "folders")
    assert (found.code, "cannot be read now: missing_image 1." in found.out) == (4, True)


def test_the_labels_come_back_in_their_own_format(assay, run, tmp_path, here):
    """The label file with corrected labels: here by order, without a header and with old line ends."""
    (tmp_path / "noisy.csv").write_text("ash\r\n" * 40)
    (run / "noise.json").write_text("{}")
    (run / "evaluation.json").write_text('{"warnings": ["no better than before"]}')
    found = assay("labels", run, "-o", "fixed.csv", "--like", tmp_path / "noisy.csv")
    assert found.code == 0
    lines = (here / "fixed.csv").read_bytes().split(b"\r\n")
    assert (len(lines), lines[4], lines[5]) == (41, b"ash", b"cedar")
    changed = sum(line not in (b"ash", b"") for line in lines)
    assert found.out.startswith(f"{changed} labels changed in fixed.csv.\nLeft as they were: unsure ")
    assert "warning of the run: no better than before\n" in found.err
    # labels.csv has the order of the noisy table, which may be any.
    rows = (run / "labels.csv").read_text().splitlines()
    (run / "labels.csv").write_text("\n".join([rows[0], *reversed(rows[1:])]) + "\n")
    assert assay("labels", run, "-o", "again.csv", "--like", tmp_path / "noisy.csv").code == 0
    assert (here / "again.csv").read_bytes() == (here / "fixed.csv").read_bytes()


def test_the_columns_of_the_labels_may_be_named(assay, run, tmp_path, here):
    """By options, or by the run that they were given to."""
    (tmp_path / "noisy.csv").write_text("img,annot\n5.png,ash\n")
    words = ("labels", run, "-o", "fixed.csv", "--like", tmp_path / "noisy.csv")
    assert "--path-col img and --label-col annot" in assay(*words).err
    assert assay(*words, "--path-col", "img", "--label-col", "annot").code == 0
    assert (here / "fixed.csv").read_text() == "img,annot\n5.png,cedar\n"
    change_facts(run / "run.json", reading={"path_column": "img", "label_column": "annot"})
    assert assay(*words).code == 0


def test_the_labels_are_matched_as_the_run_matched_them(assay, run, tmp_path, here):
    """By file name, and without the beginning that was taken off; one from elsewhere is found again."""
    words = ("labels", run, "-o", "fixed.csv", "--like", tmp_path / "noisy.csv")
    for path, reading in (
        ("/x/5.png", {}),
        ("old/5.jpg", {"match": "name"}),
        ("b/5.png", {"strip_prefix": "b"}),
    ):
        (tmp_path / "noisy.csv").write_text(f"file,label\n{path},ash\n")
        change_facts(run / "run.json", reading=reading)
        assert assay(*words).code == 0
        assert (here / "fixed.csv").read_text() == f"file,label\n{path},cedar\n"


def test_marks_of_formulas_are_of_csv(assay, tmp_path, images, here):
    """--excel-safe marks names, and the mark is taken away when the file is read again."""
    run = write_run(tmp_path / "marked", [f"={row}.png" for row in range(40)], images=images)
    assert assay("labels", run, "-o", "x.csv", "--excel-safe").code == 0
    assert (here / "x.csv").read_text().splitlines()[1] == "'=0.png,ash,birch,1.0,trusted,true"


@pytest.mark.parametrize("file", ["labels.csv", "holdout.csv", "decisions.sqlite"])
def test_no_export_overwrites_a_file_of_the_run(refused, run, file):
    """The run would have to be computed again."""
    before = (run / file).read_bytes()
    message = f"--out: {run / file} belongs to the run or model in {run}"
    refused(2, message, "labels", run, "-o", run / file, "--format", "csv")
    assert (run / file).read_bytes() == before


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        ([], 2, "parameter --out requires an argument"),
        (["-o", "x.txt"], 2, "--format: expected csv, jsonl, parquet, folders, huggingface, coco"),
        (["-o", "x.csv", "--format", "xml"], 2, 'Invalid value "xml" for --format'),
        (["-o", "x.csv", "--policy", "best"], 2, 'Invalid value "best" for --policy'),
        (
            ["-o", "x.csv", "--like", "y.csv", "--excel-safe"],
            2,
            "--like: expected without --format and --exc",
        ),
        (
            ["-o", "x.csv", "--like", "y.csv", "--format", "csv"],
            2,
            "--like: expected without --format and --exc",
        ),
        (["-o", "no/x.csv"], 2, "--out: expected a file in an existing folder"),
        (["-o", "x.csv", "--decisions", "no.csv"], 3, "cannot read no.csv"),
    ],
)
def test_what_cannot_be_is_refused(refused, run, flags, code, message):
    """The option is named."""
    refused(code, message, "labels", run, *flags)
