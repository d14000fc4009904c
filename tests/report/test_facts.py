"""Facts beside those of a plain run: a comparison, an audit, noise with a structure, many classes."""

import json

import numpy as np
import pytest
from report_pages import Page

from assay.correct.findings import KINDS
from assay.data.write import write_json
from assay.errors import DataError
from assay.evaluate import mcnemar
from assay.noise import describe, estimate_noise
from assay.noise.intervals import share_interval
from assay.pipeline.auditing import run_digests
from assay.pipeline.record import SCHEMA
from assay.report.confusion import draw_confusion
from assay.report.facts import MOST_CLASSES, to_json
from assay.report.noise_facts import noise_facts
from assay.report.write import write_report

NAMES = ("ash", "birch", "cedar")


def row(system, title, accuracy, **others):
    """A row of compare.json; without an accuracy, of a recipe that failed."""
    truth = np.zeros(40, dtype=int)
    rival = mcnemar(truth, np.arange(40) % 3, np.arange(40) % 2).to_json()
    costs = ("milliseconds_alone", "milliseconds_in_batches", "peak_memory_bytes", "model_bytes")
    known = accuracy is not None
    return {
        "system": system,
        "title": title,
        "status": "done" if known else "failed",
        "error": None if known else "it ran out of <memory>",
        "accuracy": accuracy,
        "accuracy_low": accuracy and accuracy - 0.1,
        "accuracy_high": accuracy and accuracy + 0.05,
        "macro_f1": accuracy,
        "n": 24 if known else None,
        "source": "holdout" if known else None,
        "against_baseline": rival if known else None,
        "against_model_2": None,
        "train_seconds": 12.5 if known else None,
        "facts": {},
        **dict.fromkeys(costs, 2_000_000 if known else None),
        **others,
    }


@pytest.fixture
def compared(own_run):
    """The run with a comparison in its folder."""
    run = json.loads((own_run / "run.json").read_text())
    rows = [
        row("histogram", "Baseline", 0.3),
        row("cnn-1", "CNN 1", 0.6),
        row("cnn-2", "CNN 2", None),
        row("assay", "Assay", 0.9),
    ]
    record = {
        "holdout_evaluations": 1,
        "schema": SCHEMA,
        "status": "done",
        "rows": rows,
        "left_out": [],
        "settings": run["settings"] | {"as_published": False},
        "data": run["data"],
    }
    write_json(own_run / "compare.json", record)
    (own_run / "pictures").mkdir()
    counts = np.diag([5, 6, 7])
    for system in ("cnn-1", "assay", "noisy"):
        drawn = draw_confusion(counts, NAMES, title=f"{system}: predicted & trusted")
        (own_run / "pictures" / f"confusion_{system}.svg").write_text(drawn)
    return own_run


def test_every_recipe_of_a_comparison_is_there(compared):
    """With accuracy, interval, cost and size; one that failed says why; their confusions are shown."""
    written = write_report(compared)
    page, facts = Page(written.page.read_text()), json.loads(written.facts.read_text())
    _, *rows = page.table("How good each recipe is")
    assert [shown[0] for shown in rows] == ["Baseline", "CNN 1", "CNN 2", "Assay"]
    assert rows[1][1:3] == ["60.0 %", "50.0 to 65.0"]
    assert {*rows[2][1:]} == {"–"}
    _, *rows = page.table("What each recipe costs")
    assert (rows[1][1], rows[1][-1]) == ("12", "2.0")
    assert "The sealed labels were read 1 time by the run and 1 time by the comparison." in page.words()
    assert "CNN 2 failed: it ran out of <memory>" in page.words()
    assert facts["comparison"]["rows"] == json.loads((compared / "compare.json").read_text())["rows"]
    assert "Of 3 recipes on the same images Assay has the highest accuracy, 90.0 %." in facts["summary"]
    assert [one["title"] for one in facts["drawings"]] == ["cnn-1: predicted & trusted"]
    alts = [attributes["alt"] for tag, attributes in page.tags if tag == "img"]
    assert "cnn-1: predicted & trusted. Trusted labels in rows" in " ".join(alts)


@pytest.mark.parametrize(("part", "change"), [("settings", {"seed": 1}), ("data", {"labels": "others"})])
def test_a_comparison_of_other_images_is_left_out(compared, part, change):
    """Its figures are of another holdout than the run's beside them, and the reader is told."""
    file = compared / "compare.json"
    record = json.loads(file.read_text())
    file.write_text(json.dumps(record | {part: record[part] | change}))
    written = write_report(compared)
    page, facts = Page(written.page.read_text()), json.loads(written.facts.read_text())
    assert facts["comparison"] is None
    assert facts["notes"] == ["compare.json is left out: it was made on other data, or another holdout"]
    assert written.notes == tuple(facts["notes"])
    assert facts["drawings"] == []
    assert "Of the other recipes" not in page.words()
    assert "cnn-1" not in page.words()


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("settings", {"preset": "balanced"}, "effort 'fast' there, 'balanced' now"),
        ("data", {"decisions": "some"}, "other decisions"),
        ("backbone", {"name": "other"}, "backbone 'small' there, 'other' now"),
    ],
)
def test_the_row_of_another_run_is_left_out(compared, part, change, words):
    """The other recipes stay: they are judged by the same images, and the reader is told."""
    file = compared / "compare.json"
    record = json.loads(file.read_text())
    record["rows"][3]["facts"] = {"backbone": "small", "size": 32}
    file.write_text(json.dumps(record))
    file = compared / "run.json"
    run = json.loads(file.read_text())
    run["backbone"] |= {"name": "small", "size": 32}
    file.write_text(json.dumps(run))
    assert len(json.loads(write_report(compared).facts.read_text())["comparison"]["rows"]) == 4
    file.write_text(json.dumps(run | {part: run[part] | change}))
    written = write_report(compared)
    page, facts = Page(written.page.read_text()), json.loads(written.facts.read_text())
    _, *rows = page.table("How good each recipe is")
    assert [shown[0] for shown in rows] == ["Baseline", "CNN 1", "CNN 2"]
    assert facts["notes"] == [
        f"Assay is left out of the comparison: its row is of another run ({words}); give assay compare again "
        "with the settings of this one and --overwrite"
    ]
    assert facts["notes"][0] in page.words()
    assert "Of 2 recipes on the same images CNN 1 has the highest accuracy, 60.0 %." in facts["summary"]
    assert [one["title"] for one in facts["drawings"]] == ["cnn-1: predicted & trusted"]


def test_a_comparison_of_another_run_alone_is_left_out(compared):
    """Nothing is left of it but the sentence."""
    file = compared / "compare.json"
    record = json.loads(file.read_text())
    settings = record["settings"] | {"preset": "best"}
    file.write_text(json.dumps(record | {"rows": record["rows"][3:], "settings": settings}))
    facts = json.loads(write_report(compared).facts.read_text())
    assert (facts["comparison"], facts["drawings"], len(facts["notes"])) == (None, [], 1)


def test_a_comparison_that_goes_on_is_not_told(compared):
    """Its table is not final."""
    file = compared / "compare.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"status": "running"}))
    assert json.loads(write_report(compared).facts.read_text())["comparison"] is None


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
    copies = [{"name": "1.png", "others": ["2.png", "3.png"], "score": 1.0}] * 7
    write_json(own_run / "audit.json", audit_of(own_run, duplicates=copies))
    written = write_report(own_run)
    page, facts = Page(written.page.read_text()), json.loads(written.facts.read_text())
    _, *rows = page.table("What assay audit found")
    assert [shown[0] for shown in rows] == [*KINDS.values()]
    assert rows[0][1:] == ["7", " ".join(["1.png = 2.png and 1 more"] * 5)]
    assert "2 images could go if one of each picture stayed." in page.words()
    assert "Labels confuse: ash and <b>birch</b> (25.0 %)." in page.words()
    assert "Images look alike" not in page.words()
    assert facts["audit"]["kinds"][0]["first"] == copies[:5]


@pytest.mark.parametrize(
    "change", [{"labels": "x"}, {"contents": "x"}, {"split": "x"}, {"corrected": "x"}, None]
)
def test_an_audit_of_another_run_is_left_out(own_run, change):
    """What it found may be mended since; so it is of an audit that does not say of which run it is."""
    found = audit_of(own_run)
    found["run"] = found["run"] | change if change else None
    write_json(own_run / "audit.json", found)
    written = write_report(own_run)
    page, facts = Page(written.page.read_text()), json.loads(written.facts.read_text())
    assert facts["audit"] is None
    assert facts["notes"] == ["audit.json is left out: it is not of this very run; give assay audit again"]
    assert facts["notes"][0] in page.words()
    assert "What else is wrong with the images" not in page.words()


@pytest.mark.parametrize("content", ["[1]", "{", '{"run": 1, '])
def test_what_is_no_audit_is_refused(own_run, content):
    """With what to do."""
    (own_run / "audit.json").write_text(content)
    with pytest.raises(
        DataError, match=r"expected what assay audit writes .*; delete it, or give assay audit"
    ):
        write_report(own_run)


def test_an_audit_without_its_findings_is_refused(own_run):
    """It says that it is of this run, and is not whole."""
    found = audit_of(own_run)
    del found["findings"]
    write_json(own_run / "audit.json", found)
    with pytest.raises(DataError, match=r"expected what assay audit writes \(KeyError"):
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
    assert even["test"]["words"].startswith("Nothing speaks against noise that is the same for all classes")
    assert uneven["test"]["words"].startswith("The noise has a structure")
    first = uneven["largest"][0]
    assert (titles.index(first["noisy"]) - titles.index(first["true"])) % 4 == 1
    assert first["probability"]["low"] < first["count"] / 1_000 < first["probability"]["high"]
    # Of twelve pairs the greatest is picked: wider than an interval of one pair alone.
    alone = share_interval(
        first["count"], sum(estimated(4, favourite=True)["counts"][titles.index(first["true"])])
    )
    assert first["probability"]["low"] < alone.low
    assert first["probability"]["high"] > alone.high
    assert even["representative"]["words"].startswith("There were too few images to tell")


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
    many(own_run, MOST_CLASSES + 10)
    written = write_report(own_run)
    page, facts = Page(written.page.read_text()), json.loads(written.facts.read_text())
    assert sum(attributes.get("role") == "img" for _, attributes in page.tags) == 4 + 4
    assert len(page.table("Wrong: the share of the class's images")) == 1 + 60
    assert facts["noise"]["transition"] is None
    assert [one["counts"] for one in facts["confusions"]] == [None] * 3
    assert facts["confusions"][0]["largest"]
    assert written.page_bytes < 500_000


def test_few_classes_keep_their_matrices():
    """Up to fifty, report.json has everything."""
    facts = {"classes": ["a"] * MOST_CLASSES, "noise": {"transition": [[1.0]]}}
    assert to_json(facts) is facts
