"""assay review: decisions out and in, and what it refuses."""

import pytest
from review_runs import draw_images, write_run
from written import change_facts, facts_of, rows_of

from assay.data.decisions import DecisionRequest, open_decisions, read_states

ME = {"who": "mia", "client": "one"}


@pytest.fixture
def images(tmp_path):
    draw_images(tmp_path / "images", [f"{row}.png" for row in range(40)])
    return tmp_path / "images"


@pytest.fixture
def run(tmp_path, images):
    """A run of which three images were reviewed."""
    out = write_run(tmp_path / "out", images=images)
    store = open_decisions(out / "decisions.sqlite")
    labels = {"4.png": "ash", "5.png": "cedar", "6.png": None}
    store.decide([DecisionRequest(name, label, "birch", 0) for name, label in labels.items()], **ME)
    store.close()
    return out


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_decisions_go_out_and_come_back_unchanged(assay, run, images, tmp_path, here, kind):
    """Exported from one run and imported into another, they are the same file; undone ones are left out."""
    assert assay("review", run, "--export", f"d.{kind}").out == "3 reviewed images exported\n"
    other = write_run(tmp_path / "other", images=images)
    found = assay("review", other, "--import", f"d.{kind}", "--export", f"again.{kind}")
    assert found.out == "3 of 3 decisions imported\n3 reviewed images exported\n"
    assert (here / f"again.{kind}").read_bytes() == (here / f"d.{kind}").read_bytes()
    found = assay("review", other, "--import", f"d.{kind}")
    assert found.out == "0 of 3 decisions imported; 3 left out: already decided here\n"
    store = open_decisions(run / "decisions.sqlite")
    store.undo(**ME)
    store.close()
    assert assay("review", run, "--export", f"two.{kind}").out == "2 reviewed images exported\n"


def test_the_labels_come_back_in_their_own_format(assay, run, tmp_path, here):
    """The label file with corrected labels: here by order, without a header and with old line ends."""
    (tmp_path / "noisy.csv").write_text("ash\r\n" * 40)
    (run / "noise.json").write_text("{}")
    (run / "evaluation.json").write_text('{"warnings": ["no better than before"]}')
    found = assay("review", run, "--export", "fixed.csv", "--relabel", tmp_path / "noisy.csv")
    assert found.code == 0
    lines = (here / "fixed.csv").read_bytes().split(b"\r\n")
    assert (len(lines), lines[4], lines[5]) == (41, b"ash", b"cedar")
    changed = sum(line not in (b"ash", b"") for line in lines)
    assert found.out == f"{changed} labels changed\n"
    assert "warning of the run: no better than before\n" in found.err
    # labels.csv has the order of the noisy table, which may be any.
    rows = (run / "labels.csv").read_text().splitlines()
    (run / "labels.csv").write_text("\n".join([rows[0], *reversed(rows[1:])]) + "\n")
    assert assay("review", run, "--export", "again.csv", "--relabel", tmp_path / "noisy.csv").code == 0
    assert (here / "again.csv").read_bytes() == (here / "fixed.csv").read_bytes()


def test_the_columns_of_the_labels_may_be_named(assay, run, tmp_path, here):
    """By options, or by the run that they were given to."""
    (tmp_path / "noisy.csv").write_text("img,annot\n5.png,ash\n")
    words = ("review", run, "--export", "fixed.csv", "--relabel", tmp_path / "noisy.csv")
    assert "--path-col and --label-col" in assay(*words).err
    assert assay(*words, "--path-col", "img", "--label-col", "annot").code == 0
    assert (here / "fixed.csv").read_text() == "img,annot\n5.png,cedar\n"
    change_facts(run / "run.json", reading={"path_column": "img", "label_column": "annot"})
    assert assay(*words).code == 0


def test_the_labels_are_matched_as_the_run_matched_them(assay, run, tmp_path, here):
    """By file name, and without the beginning that was taken off; one from elsewhere is found again."""
    words = ("review", run, "--export", "fixed.csv", "--relabel", tmp_path / "noisy.csv")
    for path, reading in (
        ("/x/5.png", {}),
        ("old/5.jpg", {"match": "name"}),
        ("b/5.png", {"strip_prefix": "b"}),
    ):
        (tmp_path / "noisy.csv").write_text(f"file,label\n{path},ash\n")
        change_facts(run / "run.json", reading=reading)
        assert assay(*words).code == 0
        assert (here / "fixed.csv").read_text() == f"file,label\n{path},cedar\n"


def test_imported_decisions_are_those_of_this_run(refused, run, here):
    """Another class or image is refused by name, and nothing is imported."""
    for row, what in (("7.png,larch", "no label 'larch'"), ("x.png,ash", "no image 'x.png'")):
        (here / "d.csv").write_text(f"file,label\n8.png,ash\n{row}\n")
        message = f"d.csv: the run has {what}; correct or remove the row"
        refused(3, message, "review", run, "--import", "d.csv")
    assert len(read_states(run / "decisions.sqlite")) == 3


def test_trusted_images_are_left_alone(assay, run, here):
    """Their decisions are counted as left out; a missing old label is taken from the run."""
    (here / "d.csv").write_text("file,label\n0.png,cedar\n8.png,ash\n")
    found = assay("review", run, "--import", "d.csv", "--export", "e.csv")
    assert found.out.splitlines()[0] == (
        "1 of 2 decisions imported; 1 left out: trusted or skipped, such as '0.png'"
    )
    assert "8.png,ash,decided,ash," in (here / "e.csv").read_text()
    assert "0.png" not in read_states(run / "decisions.sqlite")


def test_an_impossible_export_is_refused_before_the_import(refused, run, here):
    """Decisions are for good."""
    (here / "d.csv").write_text("file,label\n8.png,ash\n")
    refused(2, "--export", "review", run, "--import", "d.csv", "--export", "d.txt")
    assert "8.png" not in read_states(run / "decisions.sqlite")


@pytest.mark.parametrize("file", ["labels.csv", "holdout.csv", "decisions.sqlite"])
def test_no_export_overwrites_a_file_of_the_run(refused, run, file):
    """The run would have to be computed again."""
    before = (run / file).read_bytes()
    message = f"--export: {run / file} belongs to the run or model in {run}"
    refused(2, message, "review", run, "--export", run / file)
    assert (run / file).read_bytes() == before


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--relabel", "x.csv"], 2, "--relabel: expected --export with the file to write"),
        (["--export", "d.txt"], 2, "--export: expected a name ending in .csv or .json, got d.txt"),
        (["--import", "no.csv"], 3, "no.csv"),
        (["--host", "192.0.2.1"], 2, "--allow-remote"),
        (["--host", "0.0.0.0", "--allow-remote"], 2, "expected one address or name"),
        (["--strategy", "best"], 2, 'Invalid value "best" for --strategy'),
    ],
)
def test_what_cannot_be_is_refused(refused, run, flags, code, message):
    """The option is named."""
    refused(code, message, "review", run, *flags)


def test_a_taken_port_is_refused(refused, run):
    """The message names the option that helps."""
    from assay.web.listen import listen

    with listen("127.0.0.1", 0) as taken:
        refused(2, "--port", "review", run, "--port", taken.getsockname()[1])


def test_decisions_are_used_by_the_next_run(assay, refused, own_data, tmp_path, here):
    """Run, decide, run again with the decisions, which are part of its settings."""
    (here / "d.csv").write_text("file,label\n1.png,birch\n3.png,\n")
    cache = ("--cache", tmp_path / "cache", "-q")
    assert assay(*own_data.command(tmp_path / "out", *cache)).code == 0
    assert assay("review", tmp_path / "out", "--import", "d.csv").out == "2 of 2 decisions imported\n"
    decisions = ("--decisions", tmp_path / "out" / "decisions.sqlite")
    refused(2, "decisions", *own_data.command(tmp_path / "out", *cache, *decisions))
    again = own_data.command(tmp_path / "again", *cache, *decisions)
    for _ in range(2):
        assert assay(*again).code == 0
    rows = {row["file"]: row for row in rows_of(tmp_path / "again" / "labels.csv")}
    assert (rows["1.png"]["corrected_label"], rows["1.png"]["reason"]) == ("birch", "decided")
    assert rows["3.png"]["reason"] == ""
    assert facts_of(tmp_path / "again" / "run.json")["data"]["decided"] == 1
