"""report.html and report.json of a small real run."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from report_pages import HOSTILE_LABELS, HOSTILE_NAMES, Page, rename

from assay.correct.audit import KINDS
from assay.data.write import write_json
from assay.errors import DataError, UsageError
from assay.noise import describe, estimate_noise
from assay.noise.intervals import share_interval
from assay.pipeline.audit import run_digests
from assay.pipeline.finished import read_finished_run
from assay.pipeline.shown import TITLES
from assay.report import facts as report_facts
from assay.report.facts import MAX_CLASSES, audit_facts, class_facts, noise_facts
from assay.report.write import write_report
from assay.text import FEW, interval, percent_range, seconds, share_of

NAMES = ("ash", "birch", "cedar")


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


@pytest.fixture
def facts_of(monkeypatch):
    """The JSON file of a run, without drawing the page, which takes longest."""

    def give(run):
        with monkeypatch.context() as patch:
            patch.setattr("assay.report.page.draw_page", lambda *_: "")
            return json.loads(write_report(run).facts.read_text(encoding="utf-8"))

    return give


def range_of(found):
    return percent_range(found["low"], found["high"])


def percent(share):
    return f"{100 * share:.1f} %"


def test_both_files_are_written(written, own_run):
    """Where they were asked for, the JSON under the page's name; without a place in the run's folder. Neither
    the time nor chance is in them.
    """
    assert (written.page.name, written.facts.name) == ("r.html", "r.json")
    assert written.page_bytes == written.page.stat().st_size < 500_000
    assert written.notes == ()
    default = write_report(own_run)
    assert default.page == own_run / "report.html"
    assert default.facts == own_run / "report.json"
    assert default.page.read_bytes() == written.page.read_bytes()
    assert default.facts.read_bytes() == written.facts.read_bytes()


def test_the_page_is_whole_and_in_order(page):
    """One heading for the page, one for each part, no level left out."""
    assert [words for kind, words in page.headings if kind == "h2"] == [
        "Summary",
        "How wrong the labels are",
        "How accurate it is",
        "Class by class",
        "Which classes are confused",
        "How well confidence matches accuracy",
        "What was changed",
        "What it cost",
        "Images that could not be used",
        "Warnings",
        "How to reproduce it",
    ]
    assert [kind for kind, _ in page.headings].count("h1") == 1
    targets = {attributes.get("id") for _, attributes in page.tags}
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert {link.removeprefix("#") for link in links if link.startswith("#")} <= targets


def test_the_summary_is_plain_words(facts, page):
    """A reader of one paragraph knows the noise, the fix, the model, and what to be careful with."""
    assert facts["summary"] in page.words()
    noise = facts["noise"]
    assert facts["summary"].startswith(
        f"{percent(noise['rate']['estimate'])} of the labels are wrong "
        f"({percent(noise['rate']['low'])} to {percent(noise['rate']['high'])}), with no sign that classes "
        f"differ. Counted: {noise['wrong']} of {noise['pairs']} checked labels; the rate also "
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
        expected = [row["title"], share_of(accuracy["estimate"], row["n"]), range_of(accuracy)]
        assert shown[:3] == expected
        if row["system"] != "noisy":
            assert row["balanced_accuracy"] == found[row["system"]]["balanced_accuracy"]
        assert shown[3] == (interval(row["balanced_accuracy"]) if row["n"] >= FEW else "–")
        assert shown[6:8] == [str(row["n"]), row["source"]]


def test_the_heat_map_shows_every_cell_with_its_interval(facts, page):
    """P(given | true), low and high, as noise.json has them."""
    noise = facts["noise"]
    header, *rows = page.table("P(noisy label | true class)")
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
        found["assay_cross_validated"]["report"]["confusion"],  # the holdout has 16 images
    ]
    for one in facts["confusions"]:
        _, *rows = page.table(f"{one['title']}: {one['n']} images, {one['source']}")
        assert [[int(cell.split()[0]) for cell in row[1:]] for row in rows] == one["counts"]


def test_every_class_has_its_row(facts, page):
    """How often its labels are wrong, how well it is found, how many images have it."""
    _, *rows = page.table("Wrong labels: checked images of the class")
    for shown, row in zip(rows, facts["by_class"]["rows"], strict=True):
        scores = [f"{row[key]:.3f}" for key in ("precision", "recall", "f1")]
        wrong = row["wrong"]
        counts = [str(row[key]) for key in ("support", "noisy", "corrected")]
        of = "{} of {}".format(*row["counted"])
        assert shown == [row["name"], of, range_of(wrong), percent(wrong["estimate"]), *scores, *counts]
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
    assert [curve["system"] for curve in facts["curves"]] == [
        "assay_cross_validated",
        "labels_cross_validated",
    ]
    for curve in facts["curves"]:
        assert sum(one["n"] for one in curve["reliability"]) == curve["n"]
        _, *rows = page.table(f"Errors among the most confident images: {curve['title']}")
        assert rows[-1][0] == "100.0 %"
        assert rows[-1][3] == percent(curve["risk_coverage"][-1]["risk"])
    charts = [attributes for tag, attributes in page.tags if attributes.get("class") == "chart"]
    assert len(charts) == 4
    assert all(len(chart["alt"]) > 30 for chart in charts)


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
    shown = [image for gallery in facts["galleries"] for image in gallery["images"]]
    assert shown
    assert not held & {image["file"] for image in shown}
    assert {*shown[0]} == {"row", "file", "noisy", "corrected", "action", "confidence", "not_shown"}


def test_images_that_are_gone_are_said_to_be(own_run, small_data, tmp_path, facts_of):
    """The report has no gallery and says why; with their new place it has them all again."""
    file = own_run / "run.json"
    record = json.loads(file.read_text())
    file.write_text(json.dumps(record | {"images": None}))
    without = facts_of(own_run)
    assert "has no place of images" in without["notes"][0]
    assert without["galleries"] == []
    file.write_text(json.dumps(record | {"images": str(tmp_path / "gone")}))
    found = write_report(own_run)
    assert f"no longer at {tmp_path / 'gone'}" in found.notes[0]
    assert found.notes[0] in Page(found.page.read_text()).words()
    assert 'class="gallery"' not in found.page.read_text()
    assert json.loads(found.facts.read_text())["notes"] == [*found.notes]
    found = write_report(own_run, images=small_data.images)
    assert found.notes == ()
    assert 'class="gallery"' in found.page.read_text()


def test_other_images_are_refused(own_run, tmp_path):
    """A place that was named must have the run's images."""
    (tmp_path / "other").mkdir()
    shutil.copy(own_run / "model" / "README.md", tmp_path / "other" / "x.png")
    with pytest.raises(DataError, match="contains none of the 120 images of the run"):
        write_report(own_run, images=tmp_path / "other")


def test_a_runs_own_files_are_never_written_over(own_run, written):
    """A name whose JSON file is another's is refused, and so is one that is no page's."""
    before = (own_run / "noise.json").read_bytes()
    with pytest.raises(UsageError, match=r"noise.html comes with noise.json, and .* exists and is no report"):
        write_report(own_run, own_run / "noise.html")
    assert (own_run / "noise.json").read_bytes() == before
    with pytest.raises(UsageError, match=r"--out: expected a name ending in .html, got .*labels.csv"):
        write_report(own_run, own_run / "labels.csv")
    for file in (written.page, written.facts):
        shutil.copy(file, own_run / f"earlier{file.suffix}")
    (own_run / "earlier.html").write_text("an earlier page")
    write_report(own_run, own_run / "earlier.html")
    assert (own_run / "earlier.html").read_text() != "an earlier page"


def test_a_model_without_a_holdout_is_said_to_be_unmeasured(own_run, facts_of):
    """Then its classes are told by cross-validation."""
    file = own_run / "evaluation.json"
    found = json.loads(file.read_text())
    del found["systems"]["assay"], found["systems"]["histogram"]
    file.write_text(json.dumps(found | {"better_than_baseline": None}))
    facts = facts_of(own_run)
    assert "the accuracy of the model itself was not measured" in facts["summary"]
    assert facts["by_class"]["source"] == "cross-validation"


@pytest.mark.parametrize("name", ["image_issues.csv", "noise.json", "evaluation.json"])
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
    assert [tag for tag, _ in page.tags if tag in ("script", "iframe", "object")] == ["script"]  # our own
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert {attributes.get("src", "data:")[:5] for tag, attributes in page.tags if tag == "img"} == {"data:"}
    assert "\u202e" not in text
    assert len(text) < 1_000_000
    assert "<img src=x onerror=alert(1)>" in page.words()
    assert "alert(6)" in page.words()
    facts = json.loads(written.facts.read_text(encoding="utf-8"))
    assert facts["classes"] == [*HOSTILE_LABELS]
    shown = [image for gallery in facts["galleries"] for image in gallery["images"]]
    assert {image["not_shown"] for image in shown} == {None, "missing_image"}


def audit_of(run, **findings):
    """audit.json of a run with these findings."""
    found = {kind: findings.get(kind, []) for kind in KINDS}
    pair = {"classes": ["ash", "<b>birch</b>"], "share": 0.25, "expected": 0.1, "unusual": True}
    return {
        "images": 120,
        "skipped": 0,
        "run": run_digests(json.loads((run / "run.json").read_text())),
        "counts": {kind: len(rows) for kind, rows in found.items()} | {"images_in_near_duplicates": 4},
        "redundant": 2,
        "outliers": {"found": 1, "expected_if_all_belong": 0.12},
        "confused_labels": [pair],
        "look_alikes": [pair | {"unusual": False}],
        "findings": found,
    }


def test_an_audit_is_told_when_there_is_one(own_run):
    """How many of each kind, the first with their copies, classes that are confused."""
    copies = [{"file": "1.png", "others": ["2.png", "3.png"], "score": 1.0}] * 7
    write_json(own_run / "audit.json", audit_of(own_run, duplicates=copies))
    written = write_report(own_run)
    page, facts = Page(written.page.read_text()), json.loads(written.facts.read_text())
    _, *rows = page.table("What assay audit found")
    assert [shown[0] for shown in rows] == [*KINDS.values()]
    assert rows[0][1:] == ["7", " ".join(["1.png = 2.png and 1 more"] * 5)]
    assert "2 images could be removed if one of each set of near-duplicates stays." in page.words()
    assert "Labels confuse: ash and <b>birch</b> (25.0 %)." in page.words()
    assert "Images look alike" not in page.words()
    assert facts["audit"]["kinds"][0]["first"] == copies[:5]


def test_groups_of_near_duplicates_are_pictures(own_run):
    """Those with different noisy labels first, none twice; held-out images are neither counted nor shown."""
    run = read_finished_run(own_run)
    held, free = (np.flatnonzero(run.held_out == is_held).tolist() for is_held in (True, False))
    names = [run.names[row] for row in free if run.actions[row] != "skipped"][:9]
    same, different = (
        {"file": some[0], "others": some[1:], "score": 1.0} for some in (names[:2], names[2:5])
    )
    leaked = {"file": run.names[held[0]], "others": [names[5]], "score": 1.0}
    audit = audit_of(own_run, near_duplicates=[same, different, leaked], noisy_conflict=[different])
    write_json(own_run / "audit.json", audit)
    written = write_report(own_run)
    groups = json.loads(written.facts.read_text())["audit"]["groups"]
    assert [(one["title"], [image["file"] for image in one["images"]]) for one in groups] == [
        ("Different noisy labels", names[2:5]),
        ("The same noisy label", names[:2]),
    ]
    page = Page(written.page.read_text())
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    place = Path(json.loads((own_run / "run.json").read_text())["images"])
    assert (place / names[2]).as_uri() in links


def test_an_audit_of_another_run_is_left_out(own_run):
    """What it found may be mended since; so it is of an audit that does not say of which run it is."""
    found, run = audit_of(own_run), read_finished_run(own_run)
    words = "audit.json is not of this run and is left out; run assay audit again"
    for name in ("labels", "contents", "split", "corrected"):
        write_json(own_run / "audit.json", found | {"run": found["run"] | {name: "x"}})
        assert audit_facts(run) == (None, [words]), name
    write_json(own_run / "audit.json", found | {"run": None})
    written = write_report(own_run)
    page, facts = Page(written.page.read_text()), json.loads(written.facts.read_text())
    assert (facts["audit"], facts["notes"]) == (None, [words])
    assert words in page.words()
    assert "What else is wrong with the images" not in page.words()


@pytest.mark.parametrize("content", ["[1]", "{", None])
def test_what_is_no_audit_is_refused(own_run, content):
    """Other JSON, half a file, or one of this run without its findings: with what to do."""
    found = audit_of(own_run)
    del found["findings"]
    (own_run / "audit.json").write_text(content or json.dumps(found))
    with pytest.raises(
        DataError, match=r"expected what assay audit writes .*; delete it, or run assay audit"
    ):
        write_report(own_run)


def estimated(k, rate=0.5, n=4_000, *, favourite=False):
    """noise.json of drawn labels: even, or each class taken for the next one."""
    rng = np.random.default_rng(0)
    trusted = rng.integers(k, size=n)
    wrong = rng.random(n) < rate
    step = 1 if favourite else rng.integers(1, k, size=n)
    noise = estimate_noise(np.where(wrong, (trusted + step) % k, trusted), trusted, k)
    alike = {"features_auc": None, "labels": None, "looks_alike": True, "warnings": []}
    return {**noise.to_json(), "summary": describe(noise), "representative": alike}


def test_noise_with_a_structure_lists_its_mistakes():
    """The most frequent ones with their probability; where the noise is even there is nothing to list."""
    titles = ("a", "b", "c", "d")
    even, uneven = (noise_facts(estimated(4, favourite=one), titles) for one in (False, True))
    assert even["largest"] == []
    assert even["test"]["words"].startswith("The test found no difference between classes")
    assert uneven["test"]["words"].startswith("The noise is not one rate, evenly spread")
    first = uneven["largest"][0]
    assert (titles.index(first["noisy"]) - titles.index(first["true"])) % 4 == 1
    assert first["probability"]["low"] < first["count"] / 1_000 < first["probability"]["high"]
    # Of twelve pairs the greatest is picked: wider than an interval of one pair alone.
    alone = share_interval(
        first["count"], sum(estimated(4, favourite=True)["counts"][titles.index(first["true"])])
    )
    assert first["probability"]["low"] < alone.low
    assert first["probability"]["high"] > alone.high
    assert even["representative"]["words"].startswith("There were too few images to test")


def many(run, k):
    """Make a run of three classes one of ``k``, whose first three are the old ones."""
    titles = [*NAMES, *(f"class {i}" for i in range(3, k))]
    write_json(run / "model" / "labels.json", {"labels": titles, "titles": []})
    write_json(run / "noise.json", estimated(k) | {"classes": titles})
    file = run / "evaluation.json"
    found = json.loads(file.read_text())
    for system in found["systems"].values():
        report = system["report"]
        report["classes"] = [report["classes"][min(i, 2)] | {"name": name} for i, name in enumerate(titles)]
        report["confusion"] = np.pad(report["confusion"], ((0, k - 3), (0, k - 3))).tolist()
    write_json(file, found)


def test_many_classes_are_pictures(own_run):
    """No table of sixty columns: a picture in words, the largest mistakes, and no matrix in the JSON."""
    many(own_run, MAX_CLASSES + 10)
    written = write_report(own_run)
    page, facts = Page(written.page.read_text()), json.loads(written.facts.read_text())
    assert sum(attributes.get("class") == "chart" for _, attributes in page.tags) == 4 + 4
    assert len(page.table("Wrong labels: checked images of the class")) == 1 + 60
    assert facts["noise"]["transition"] is None
    assert [one["counts"] for one in facts["confusions"]] == [None] * 3
    assert facts["confusions"][0]["largest"]
    assert written.page_bytes < 1_000_000


@pytest.fixture
def unmeasured(own_run):
    """The run as if the holdout had no image of birch, and no image were called ash."""
    file = own_run / "evaluation.json"
    found = json.loads(file.read_text())
    del found["systems"]["assay_cross_validated"]
    report = found["systems"]["assay"]["report"]
    report["confusion"] = [[0, 1, 2], [0, 0, 0], [0, 4, 5]]
    scores = [(0.0, 0.0, 0.0, 3), (0.0, 0.0, 0.0, 0), (5 / 7, 5 / 9, 0.625, 9)]
    keys = ("precision", "recall", "f1", "support")
    for one, values in zip(report["classes"], scores, strict=True):
        one |= dict(zip(keys, values, strict=True))
    write_json(file, found)
    return own_run


def test_what_was_not_measured_is_a_dash(unmeasured):
    """No share of no image is a number, in page and JSON alike; a class that is never found has a recall."""
    written = write_report(unmeasured)
    _, *rows = Page(written.page.read_text()).table("Wrong labels: checked images of the class")
    assert [row[4:8] for row in rows] == [
        ["–", "0.000", "0.000", "3"],
        ["–", "–", "–", "0"],
        ["0.714", "0.556", "0.625", "9"],
    ]
    rows = json.loads(written.facts.read_text())["by_class"]["rows"]
    assert [(row["precision"], row["recall"], row["f1"]) for row in rows[:2]] == [(None, 0, 0), (None,) * 3]


@pytest.mark.parametrize(("most", "names"), [(1, ["ash"]), (2, ["ash", "cedar"])])
def test_the_worst_classes_are_measured_ones(unmeasured, monkeypatch, most, names):
    """Of more classes than the table holds those that nobody measured are the last."""
    monkeypatch.setattr(report_facts, "MAX_ROWS", most)
    noise, evaluation = (
        json.loads((unmeasured / f"{name}.json").read_text()) for name in ("noise", "evaluation")
    )
    facts = class_facts(read_finished_run(unmeasured), noise, evaluation)
    assert [row["name"] for row in facts["rows"]] == names
