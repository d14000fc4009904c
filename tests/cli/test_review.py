"""assay review: decisions in, and what it refuses."""

import pytest
from review_runs import draw_images, write_reviewed_run, write_run
from written import facts_of, rows_of

from assay.data.decisions import read_states, standing

ME = {"who": "mia", "client": "one"}


@pytest.fixture
def images(tmp_path):
    draw_images(tmp_path / "images", [f"{row}.png" for row in range(40)])
    return tmp_path / "images"


@pytest.fixture
def run(tmp_path, images):
    """A run of which three images were reviewed."""
    return write_reviewed_run(tmp_path / "out", images)


def test_decisions_of_another_run_are_imported_once(assay, run, images, tmp_path):
    """From its database; what was decided here already stays."""
    other = write_run(tmp_path / "other", images=images)
    found = assay("review", other, "--import", run / "decisions.sqlite")
    assert found.out == "3 of 3 decisions imported\n"
    one, two = (read_states(folder / "decisions.sqlite") for folder in (run, other))
    assert [*map(plain, standing(one))] == [*map(plain, standing(two))]
    found = assay("review", other, "--import", run / "decisions.sqlite")
    assert found.out == "0 of 3 decisions imported; 3 left out: already decided here\n"


def plain(row):
    return (row.name, row.before, row.after, row.who, row.at)


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
    found = assay("review", run, "--import", "d.csv")
    assert found.out.splitlines()[0] == (
        "1 of 2 decisions imported; 1 left out: trusted or skipped, such as '0.png'"
    )
    states = read_states(run / "decisions.sqlite")
    assert (states["8.png"].last.before, states["8.png"].label) == ("ash", "ash")
    assert "0.png" not in states


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
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
