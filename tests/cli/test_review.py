"""assay review: decisions out and in, and what it refuses."""

import csv
import json

import pytest
from review_runs import draw_images, write_run

from assay.data.decision_store import open_decisions, read_states

ME = {"who": "mia", "client": "one"}


@pytest.fixture
def images(tmp_path):
    draw_images(tmp_path / "images", [f"{row}.png" for row in range(40)])
    return tmp_path / "images"


@pytest.fixture
def run(tmp_path, images):
    """A run on which three images were looked at."""
    out = write_run(tmp_path / "out", images=images)
    store = open_decisions(out / "decisions.sqlite")
    for name, label in (("4.png", "ash"), ("5.png", "cedar"), ("6.png", None)):
        store.decide(name, label, noisy="birch", revision=0, **ME)
    store.close()
    return out


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_decisions_go_out_and_come_back_unchanged(assay, run, images, tmp_path, kind):
    """Exported from one run and imported into another, they are the same file again."""
    assert assay("review", run, "--export", f"d.{kind}").out == "3 images were looked at\n"
    other = write_run(tmp_path / "other", images=images)
    noisy = assay("review", other, "--import", f"d.{kind}", "--export", f"again.{kind}")
    assert noisy.out == "3 of 3 decisions taken over\n3 images were looked at\n"
    assert (tmp_path / "here" / f"again.{kind}").read_bytes() == (
        tmp_path / "here" / f"d.{kind}"
    ).read_bytes()
    noisy = assay("review", other, "--import", f"d.{kind}")
    assert noisy.out == "0 of 3 decisions taken over; 3 of images that are decided here\n"


def test_what_was_taken_back_was_not_looked_at(assay, run, tmp_path):
    """The number that is said is that of the rows in the file."""
    store = open_decisions(run / "decisions.sqlite")
    store.undo(**ME)
    store.close()
    assert assay("review", run, "--export", "d.csv").out == "2 images were looked at\n"
    assert len((tmp_path / "here" / "d.csv").read_text().splitlines()) == 3


def test_the_labels_come_back_in_their_own_format(assay, run, tmp_path):
    """The very file that the labels were in, with the corrected ones: here by order and without a header."""
    (tmp_path / "noisy.csv").write_text("".join(f"{'ash'}\r\n" for _ in range(40)))
    (run / "noise.json").write_text("{}")
    (run / "evaluation.json").write_text('{"warnings": ["no better than before"]}')
    noisy = assay("review", run, "--export", "fixed.csv", "--relabel", tmp_path / "noisy.csv")
    assert noisy.code == 0
    lines = (tmp_path / "here" / "fixed.csv").read_bytes().split(b"\r\n")
    assert (len(lines), lines[4], lines[5]) == (41, b"ash", b"cedar")
    changed = sum(line not in (b"ash", b"") for line in lines)
    assert noisy.out == f"{changed} labels changed\n"
    assert "warning of the run: no better than before\n" in noisy.err


def test_imported_decisions_are_those_of_this_run(assay, run):
    """Another class or another image is refused with its name, and nothing is taken over."""
    for row, message in (("7.png,larch", "the label 'larch'"), ("x.png,ash", "the image 'x.png'")):
        with open("d.csv", "w") as file:  # noqa: PTH123  # in the folder that the test works in
            file.write(f"file,label\n8.png,ash\n{row}\n")
        noisy = assay("review", run, "--import", "d.csv")
        assert (noisy.code, noisy.out) == (3, "")
        assert f"d.csv: {message} is not of this run; correct the row or leave it out" in noisy.err
    assert len(read_states(run / "decisions.sqlite")) == 3


def test_locked_images_are_left_alone(assay, run, tmp_path):
    """A decision of a trusted image is counted as left out, and named; of others the run knows the label."""
    (tmp_path / "here" / "d.csv").write_text("file,label\n0.png,cedar\n8.png,ash\n")
    noisy = assay("review", run, "--import", "d.csv", "--export", "e.csv")
    why = "1 of images that nobody may decide, as '0.png'"
    assert noisy.out.splitlines()[0] == f"1 of 2 decisions taken over; {why}"
    assert "8.png,ash,decided,ash," in (tmp_path / "here" / "e.csv").read_text()
    assert "0.png" not in read_states(run / "decisions.sqlite")


def test_a_name_that_cannot_be_written_is_refused_before_anything_is_taken_over(assay, run, tmp_path):
    """Decisions are for good."""
    (tmp_path / "d.csv").write_text("file,label\n8.png,ash\n")
    before = read_states(run / "decisions.sqlite")
    noisy = assay("review", run, "--import", tmp_path / "d.csv", "--export", tmp_path / "d.txt")
    assert (noisy.code, noisy.out) == (2, "")
    assert read_states(run / "decisions.sqlite") == before
    assert "8.png" not in before


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--relabel", "x.csv"], 2, "--relabel: expected --export with the file to write"),
        (["--export", "d.txt"], 2, "--export: expected a name ending in .csv or .json, got d.txt"),
        (["--import", "no.csv"], 3, "cannot read no.csv: No such file"),
        (["--host", "192.0.2.1"], 2, "pass --allow-remote if that is what you want"),
        (["--host", "0.0.0.0", "--allow-remote"], 2, "expected one address or name"),
        (["--strategy", "best"], 2, "Invalid value for '--strategy'"),
    ],
)
def test_what_cannot_be_is_refused(assay, run, flags, code, message):
    """With its flag and what to do."""
    noisy = assay("review", run, *flags)
    assert (noisy.code, noisy.out) == (code, "")
    assert message in noisy.err


def test_a_port_that_is_taken_is_named(assay, run):
    """The message names the flag that helps."""
    from assay.web.listen import listen

    with listen("127.0.0.1", 0) as taken:
        noisy = assay("review", run, "--port", taken.getsockname()[1])
    assert (noisy.code, "name another with --port" in noisy.err) == (2, True)


def test_a_run_that_is_not_finished_is_refused(assay, tmp_path):
    """An empty folder too."""
    noisy = assay("review", tmp_path)
    assert (noisy.code, "expected the folder of a finished run" in noisy.err) == (3, True)


def test_a_real_run_is_reviewed_and_learned_from(assay, own_data, tmp_path):
    """Run, decide, run again with the decisions; run.json says where the images are."""
    cache = ("--cache", tmp_path / "cache", "-q")
    assert assay(*own_data.command(tmp_path / "out", *cache)).code == 0
    (tmp_path / "here" / "d.csv").write_text("file,label\n1.png,birch\n3.png,\n")
    assert assay("review", tmp_path / "out", "--import", "d.csv").out == "2 of 2 decisions taken over\n"
    decisions = ("--decisions", tmp_path / "out" / "decisions.sqlite")
    noisy = assay(*own_data.command(tmp_path / "out", *cache, *decisions))
    assert (noisy.code, "holds a run with other decisions" in noisy.err) == (2, True)
    again = tmp_path / "again"
    assert assay(*own_data.command(again, *cache, *decisions)).code == 0
    with (again / "labels.csv").open() as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert (rows["1.png"]["corrected"], rows["1.png"]["reason"]) == ("birch", "decided")
    assert rows["3.png"]["reason"] == ""
    assert json.loads((again / "run.json").read_text())["data"]["decided"] == 1
    noisy = assay(*own_data.command(again, *cache, *decisions))
    assert noisy.code == 0


def test_labels_without_names_are_in_the_order_of_the_images(assay, run, images, tmp_path):
    """labels.csv has the order of the noisy table, which may be any."""
    lines = (run / "labels.csv").read_text().splitlines()
    (run / "labels.csv").write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    (tmp_path / "noisy.csv").write_text("ash\n" * 40)
    assert (
        assay("review", run, images, "--export", "fixed.csv", "--relabel", tmp_path / "noisy.csv").code == 0
    )
    assert (tmp_path / "here" / "fixed.csv").read_text().splitlines()[4:6] == ["ash", "cedar"]


def test_the_columns_of_the_labels_may_be_named(assay, run, tmp_path):
    """By flags, or once for all by the run that they were given to."""
    (tmp_path / "noisy.csv").write_text("img,annot\n5.png,ash\n")
    words = ("review", run, "--export", "fixed.csv", "--relabel", tmp_path / "noisy.csv")
    assert "name the columns with --path-col and --label-col" in assay(*words).err
    assert assay(*words, "--path-col", "img", "--label-col", "annot").code == 0
    assert (tmp_path / "here" / "fixed.csv").read_text() == "img,annot\n5.png,cedar\n"
    record = json.loads((run / "run.json").read_text())
    record["reading"] = {"path_column": "img", "label_column": "annot"}
    (run / "run.json").write_text(json.dumps(record))
    assert assay(*words).code == 0


@pytest.mark.parametrize("file", ["labels.csv", "holdout.csv", "decisions.sqlite"])
def test_no_export_overwrites_a_part_of_the_run(assay, run, file):
    """Without it the run would have to be computed again."""
    (run / file).touch()
    before = (run / file).read_bytes()
    noisy = assay("review", run, "--export", run / file)
    assert (noisy.code, (run / file).read_bytes()) == (2, before)
    assert f"--export: {run / file} is a part of what is in {run}" in noisy.err
