"""report.html and report.json of a small real run."""

import json
import re
import shutil

import pytest
from report_pages import HOSTILE_LABELS, HOSTILE_NAMES, Page, rename

from assay.errors import DataError, UsageError
from assay.pipeline.measuring import TITLES
from assay.report.write import write_report
from assay.text import interval, range_of, seconds


@pytest.fixture(scope="module")
def written(finished, tmp_path_factory):
    """The report of the shared run."""
    return write_report(finished, tmp_path_factory.mktemp("report") / "r.html")


@pytest.fixture(scope="module")
def page(written):
    return Page(written.page.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def facts(written):
    return json.loads(written.facts.read_text(encoding="utf-8"))


def percent(share):
    return f"{100 * share:.1f} %"


def test_both_files_are_written(written, own_run):
    """Where they were asked for, the JSON under the page's name; without a place in the run's folder."""
    assert (written.page.name, written.facts.name) == ("r.html", "r.json")
    assert written.page_bytes == written.page.stat().st_size < 500_000
    assert written.notes == ()
    default = write_report(own_run)
    assert default.page == own_run / "report.html"
    assert default.facts == own_run / "report.json"


def test_the_page_is_whole_and_in_order(page):
    """One heading for the page, one for each part, no level left out."""
    assert [words for kind, words in page.headings if kind == "h2"] == [
        "In short",
        "How wrong the labels are",
        "How accurate it is",
        "Class by class",
        "What is taken for what",
        "Whether its confidence can be believed",
        "What was changed",
        "What it cost",
        "Images that could not be used",
        "Warnings",
        "How to do it again",
    ]
    assert [kind for kind, _ in page.headings].count("h1") == 1
    targets = {attributes.get("id") for _, attributes in page.tags}
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert {link.removeprefix("#") for link in links} <= targets


def test_the_summary_is_plain_words(facts, page):
    """A reader of one paragraph knows the noise, the fix, the model, and what to be careful with."""
    assert facts["summary"] in page.words()
    noise = facts["noise"]
    assert facts["summary"].startswith(
        f"{interval(noise['rate'])} of the labels of 120 images in 3 classes are wrong, with no sign "
        f"that classes differ; this was counted on {noise['pairs']} images with a trusted label. "
    )
    assert "1 image could not be used." in facts["summary"]


def test_accuracies_are_those_of_the_run(facts, page, finished):
    """Every figure of evaluation.json, the given labels first, in page and JSON alike."""
    found = json.loads((finished / "evaluation.json").read_text())["systems"]
    assert [row["system"] for row in facts["figures"]] == [
        "noisy",
        *(name for name in TITLES if name in found),
    ]
    header, *rows = page.table("Accuracy of this run")
    assert header[:3] == ["of", "accuracy", "95 % interval"]
    for shown, row in zip(rows, facts["figures"], strict=True):
        accuracy = row["accuracy"]
        if row["system"] != "noisy":
            assert accuracy == found[row["system"]]["accuracy"]
        expected = [row["title"], percent(accuracy["estimate"]), range_of(accuracy)]
        assert shown[:3] == expected
        assert shown[5:7] == [str(row["n"]), row["source"]]


def test_the_heat_map_shows_every_cell_with_its_interval(facts, page):
    """P(given | true), low and high, as noise.json has them."""
    noise = facts["noise"]
    header, *rows = page.table("P(given label | true class)")
    assert header[1:] == ["ash", "birch", "cedar"]
    for i, row in enumerate(rows):
        assert row[1:] == [
            f"{100 * noise['transition'][i][j]:.1f} "
            f"{100 * noise['low'][i][j]:.1f}–{100 * noise['high'][i][j]:.1f}"
            for j in range(3)
        ]
    assert noise["test"]["words"] in page.words()


def test_confusions_are_counted_once_each(facts, page, finished):
    """Given, fixed and predicted against trusted labels, each from the file that has it."""
    noise = json.loads((finished / "noise.json").read_text())
    found = json.loads((finished / "evaluation.json").read_text())["systems"]
    assert [one["counts"] for one in facts["confusions"]] == [
        noise["counts"],
        found["labels_cross_validated"]["report"]["confusion"],
        found["assay"]["report"]["confusion"],
    ]
    for one in facts["confusions"]:
        _, *rows = page.table(f"{one['title']}: {one['n']} images, {one['source']}")
        assert [[int(cell.split()[0]) for cell in row[1:]] for row in rows] == one["counts"]


def test_every_class_has_its_row(facts, page):
    """How often its labels are wrong, how well it is found, how many images have it."""
    _, *rows = page.table("Wrong: the share of the class's images")
    for shown, row in zip(rows, facts["by_class"]["rows"], strict=True):
        scores = [f"{row[key]:.3f}" for key in ("precision", "recall", "f1")]
        wrong = row["wrong"]
        counts = [str(row[key]) for key in ("support", "noisy", "corrected")]
        assert shown == [row["name"], percent(wrong["estimate"]), range_of(wrong), *scores, *counts]
    assert sum(row["noisy"] for row in facts["by_class"]["rows"]) == 120


def test_what_was_changed_is_counted(facts, page, finished):
    """Actions, the most frequent changes, the stages, all as in the run's files."""
    counts = json.loads((finished / "evaluation.json").read_text())["labels"]["counts"]
    assert facts["changes"]["counts"] == counts
    _, *rows = page.table("What was done to the labels")
    assert {row[0]: int(row[1]) for row in rows} == counts
    moved = {(move["noisy"], move["corrected"]): move["count"] for move in facts["changes"]["moves"]}
    assert sum(moved.values()) == counts["changed"]
    _, *rows = page.table("Seconds of each stage")
    stages = facts["cost"]["stages"]
    assert [row[:2] for row in rows] == [[one["stage"], seconds(one["seconds"])] for one in stages]
    assert [one["stage"] for one in stages][:3] == ["read", "load", "embed"]


def test_curves_are_drawn_of_what_was_kept(facts, page):
    """Model and fixed labels, each with its bins; the table has points of the same curve."""
    assert [curve["system"] for curve in facts["curves"]] == ["assay", "labels_cross_validated"]
    for curve in facts["curves"]:
        assert sum(one["n"] for one in curve["reliability"]) == curve["n"]
        _, *rows = page.table(f"Mistakes among the surest images: {curve['title']}")
        assert rows[-1][0] == "100.0 %"
        assert rows[-1][3] == percent(curve["risk_coverage"][-1]["risk"])
    charts = [attributes for tag, attributes in page.tags if attributes.get("role") == "img"]
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(charts) == 4
    assert len(set(ids)) == len(ids)
    assert {one for chart in charts for one in chart["aria-labelledby"].split()} <= {*ids}


def test_how_to_do_it_again(facts, page, finished):
    """The command as a shell reads it, settings, versions, machine, digests."""
    record = json.loads((finished / "run.json").read_text())
    assert facts["reproduce"]["shell"] == "assay run 'my images/' -o out"
    assert "assay run 'my images/' -o out" in page.words()
    for key in ("settings", "versions", "machine", "data", "backbone"):
        assert facts["reproduce"][key] == record[key]
    assert ["numpy", record["versions"]["numpy"]] in page.table("Versions")
    assert ["seed", "0"] in page.table("Settings")
    assert page.table("Skipped images")[1][:2] == ["7.png", "empty_file"]


def test_galleries_hold_no_sealed_image(facts, finished):
    """What was held out is in no gallery, and of no image there is a trusted label."""
    lines = (finished / "labels.csv").read_text().splitlines()
    held = {line.split(",")[0] for line in lines if line.endswith(",holdout")}
    shown = [image for gallery in facts["changes"]["galleries"] for image in gallery["images"]]
    assert shown
    assert not held & {image["name"] for image in shown}
    assert {*shown[0]} == {"row", "name", "noisy", "corrected", "confidence", "not_shown"}


def test_the_same_run_gives_the_same_bytes(written, finished, tmp_path):
    """Neither the time nor chance is in the files."""
    again = write_report(finished, tmp_path / "r.html")
    assert again.page.read_bytes() == written.page.read_bytes()
    assert again.facts.read_bytes() == written.facts.read_bytes()


def test_images_that_are_gone_are_said_to_be(own_run, small_data, tmp_path):
    """The report has no gallery and says why; with their new place it has them all again."""
    file = own_run / "run.json"
    record = json.loads(file.read_text())
    for stored, words in (
        (str(tmp_path / "gone"), f"no longer at {tmp_path / 'gone'}"),
        (None, "does not say"),
    ):
        file.write_text(json.dumps(record | {"images": stored}))
        found = write_report(own_run)
        page = Page(found.page.read_text())
        assert words in found.notes[0]
        assert found.notes[0] in page.words()
        assert not [tag for tag, _ in page.tags if tag == "img"]
        assert json.loads(found.facts.read_text())["notes"] == [*found.notes]
    found = write_report(own_run, images=small_data.images)
    assert found.notes == ()
    assert [tag for tag, _ in Page(found.page.read_text()).tags if tag == "img"]


def test_other_images_are_refused(own_run, tmp_path):
    """A place that was named must have the run's images."""
    (tmp_path / "other").mkdir()
    shutil.copy(own_run / "model" / "README.md", tmp_path / "other" / "x.png")
    with pytest.raises(DataError, match="none of the 120 images of the run is there"):
        write_report(own_run, images=tmp_path / "other")


def test_a_runs_own_files_are_never_written_over(own_run, tmp_path):
    """A name whose JSON file is another's is refused, and so is one that is no page's."""
    before = (own_run / "noise.json").read_bytes()
    with pytest.raises(UsageError, match=r"noise.html would come with noise.json, and there is a .* already"):
        write_report(own_run, own_run / "noise.html")
    assert (own_run / "noise.json").read_bytes() == before
    with pytest.raises(UsageError, match=r"--out: expected a name ending in .html, got .*labels.csv"):
        write_report(own_run, own_run / "labels.csv")
    write_report(own_run, tmp_path / "r.html")
    write_report(own_run, tmp_path / "r.html")


def test_a_model_without_a_holdout_is_said_to_be_unmeasured(own_run):
    """Then its classes are told by cross-validation."""
    file = own_run / "evaluation.json"
    found = json.loads(file.read_text())
    del found["systems"]["assay"], found["systems"]["histogram"]
    file.write_text(json.dumps(found | {"better_than_baseline": None}))
    written = write_report(own_run)
    facts = json.loads(written.facts.read_text())
    assert "the accuracy of the model itself was not measured" in facts["summary"]
    assert facts["by_class"]["source"] == "cross-validation"


@pytest.mark.parametrize("name", ["skipped.csv", "noise.json", "evaluation.json"])
def test_a_file_that_is_not_there_is_named(own_run, name):
    """With what to do."""
    (own_run / name).unlink()
    with pytest.raises(DataError, match=re.escape(name)):
        write_report(own_run)


def test_hostile_names_are_words(own_run, tmp_path):
    """Markup, quotes, line breaks, marks that turn text, bytes that are no text, names without end: all are
    shown as text, cut where they are long, and whole in the JSON.
    """
    rename(own_run, tmp_path / "images", HOSTILE_LABELS, HOSTILE_NAMES)
    written = write_report(own_run, images=tmp_path / "images")
    text = written.page.read_bytes().decode("utf-8")
    page = Page(text)
    assert {tag for tag, _ in page.tags} & {"script", "iframe", "object"} == set()
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert {attributes.get("src", "data:")[:5] for tag, attributes in page.tags if tag == "img"} == {"data:"}
    assert "\u202e" not in text
    assert len(text) < 800_000
    assert "<img src=x onerror=alert(1)>" in page.words()
    assert "alert(6)" in page.words()
    facts = json.loads(written.facts.read_text(encoding="utf-8"))
    assert facts["classes"] == [*HOSTILE_LABELS]
    shown = [image for gallery in facts["changes"]["galleries"] for image in gallery["images"]]
    assert {image["not_shown"] for image in shown} == {None, "missing_image"}
