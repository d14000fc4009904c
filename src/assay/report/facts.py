"""What the report shows, read from the files of a finished run; report.json has the same as data."""

import json
import math
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from assay import __version__
from assay.correct.audit import KINDS
from assay.correct.result import ACTIONS
from assay.data.dataset import ImageSource, ReadsAhead
from assay.data.files import Limits
from assay.data.loader import THUMBNAIL_TYPE, draw_thumbnail
from assay.data.tables import read_csv
from assay.drawing import data_url, describe_confusion
from assay.errors import DataError, TableError
from assay.evaluate import balanced_accuracy, balanced_figures
from assay.noise.intervals import design_effect, share_bounds
from assay.pipeline.audit import run_digests
from assay.pipeline.finished import FinishedRun
from assay.pipeline.run_files import ANNOTATOR_COLUMNS, DECIDED, ISSUE_COLUMNS, SPAM, VALIDATION, read_facts
from assay.pipeline.shown import TITLES, main_figures, why_not_measured
from assay.text import FEW, counted, cut, interval, p_equals, percent
from assay.types import UNKNOWN

KIND = "assay report"
"""Marks our report.json among other files of that name."""

SCHEMA = 2

MAX_CLASSES = 50
"""Classes up to which report.json holds whole matrices; larger ones are in the run's own files."""

MAX_ROWS = 1_000
"""Rows of the table of classes; of more classes those with the lowest F1."""

MAX_CELLS = 10
MAX_MOVES = 10
MAX_SKIPPED = 200
MAX_FINDINGS = 5
"""Rows shown of longer lists; the run's files have all."""

SHOWN = 24
"""Images of a gallery."""

GROUPS = 12
"""Groups of near-duplicates that are shown."""

IN_GROUP = 6
"""Images shown of a group."""

SIDE = 176
"""Pixels at most: sharp on a screen, enlarged too, and all galleries together weigh a megabyte."""

MAX_BYTES = 1_800_000
"""Of all thumbnails together, so that no page is larger than 5 MB; photos need a third of it."""

TOO_LARGE = "the page would grow too large"

STAGES = {
    "read": "read the labels, list the images",
    "load": "load the backbone",
    "embed": "turn images into features",
    "split": "set the holdout aside, find near-duplicates",
    "learn": "estimate the noise, correct the labels, train the model",
    "fine-tune": "fine-tune the network, correct the labels",
    "baseline": "train the baseline",
    "evaluate": "evaluate",
    "export": "export the model and check it",
    "robustness": "evaluate the model on damaged images",
    "write": "write the results",
}
"""The stages of a run in their order."""

Facts = dict[str, Any]
"""A part of report.json."""

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Gallery:
    """Some images of one kind."""

    title: str
    about: str
    """How they were chosen."""
    rows: tuple[int, ...]
    """Of labels.csv, in the order to show them."""
    of: int
    """Images of the kind."""


@dataclass(frozen=True)
class Picture:
    """A thumbnail as a page holds it."""

    address: str = field(repr=False)
    """A data: URL."""
    width: int
    height: int
    file: str = ""
    """URL of the image's own file; empty where it has none."""


def gather(
    run: FinishedRun,
    galleries: Sequence[Gallery],
    groups: Sequence[Gallery],
    pictures: Mapping[int, Picture | str],
    comparison: Json | None,
    notes: Sequence[str],
) -> Facts:
    """All facts as plain dicts, lists, text and numbers.

    Parameters
    ----------
    galleries, groups, pictures : the images to show, groups of near-duplicates; empty where there are none
    comparison : ``rows``, ``notes`` and ``holdout_evaluations`` of a comparison of systems
    notes : what the report lacks, and why
    """
    found = read_facts(run.folder)
    noise, effect = found["noise"], _effect_of_groups(run)
    audit, not_audited = audit_facts(run)
    kept = ("rows", "notes", "holdout_evaluations")
    words = (*run.titles, "")  # UNKNOWN, -1, has the empty name

    def image(row: int) -> Facts:
        picture = pictures[row]
        return {
            "row": row,
            "file": run.names[row],
            "noisy": words[run.noisy[row]],
            "corrected": words[run.proposed[row]],
            "action": run.actions[row],
            "confidence": float(run.confidence[row]),
            "not_shown": picture if isinstance(picture, str) else None,
        }

    def shown(some: Sequence[Gallery]) -> list[Facts]:
        return [
            {"title": one.title, "about": one.about, "of": one.of, "images": [*map(image, one.rows)]}
            for one in some
        ]

    facts: Facts = {
        "kind": KIND,
        "schema": SCHEMA,
        "version": __version__,
        "name": run.folder.resolve().name,
        "classes": list(run.titles),
        "data": _data_facts(run, found),
        "noise": noise_facts(noise, run.titles, effect),
        "figures": _figures(noise, found, effect),
        "headline": main_system(found),
        "labels_headline": _labels_evaluation(found),
        "better_than_baseline": found["better_than_baseline"],
        "left_out": len(found["left_out"]),
        "comparison": comparison and {key: comparison[key] for key in kept},
        "by_class": class_facts(run, noise, found),
        "confusions": _confusion_facts(noise, found, run.titles),
        "curves": _curve_facts(found),
        "changes": _change_facts(run, found),
        "galleries": shown(galleries),
        "audit": audit and audit | {"groups": shown(groups)},
        "cost": _cost_facts(run, found),
        "skipped": _skipped_facts(run),
        "warnings": found["warnings"],
        "reproduce": _reproduce_facts(run),
        "notes": [*notes, *not_audited],
    }
    if "annotators" in found:
        facts["annotators"] = annotator_facts(run, found["annotators"])
    return facts | {"summary": " ".join(_summary(facts))}


def choose_galleries(run: FinishedRun, seed: int) -> tuple[Gallery, ...]:
    """Images of each action, of each class in turn, and changes at random; no held-out image."""
    actions = np.array(run.actions, dtype=object)
    changed, unsure, kept, outliers = (
        np.flatnonzero((actions == kind) & ~run.held_out) for kind in ("changed", "unsure", "kept", "outlier")
    )
    score = np.zeros(len(run)) if run.outlier_score is None else run.outlier_score
    surest = changed[np.argsort(-run.confidence[changed], kind="stable")]
    doubtful = unsure[np.argsort(run.confidence[unsure], kind="stable")]
    generator = np.random.default_rng(seed)
    sample, confirmed = generator.permutation(changed), generator.permutation(kept)
    found = (
        (
            "The most confident changes",
            "Changed labels with the highest confidence, of each class.",
            _of_each_class(surest, run.proposed),
        ),
        (
            "The least certain labels",
            "Labels with the lowest confidence, of each class: nothing was changed, a person should decide.",
            _of_each_class(doubtful, run.proposed),
        ),
        (
            "Images of no class",
            "Images whose outlier score is above 1, the highest first: no label was changed, a person should "
            "decide whether they belong to a class. Images that a person decided so are among them.",
            outliers[np.argsort(-score[outliers], kind="stable")],
        ),
        (
            "Changes at random",
            "A fair sample of all changed labels, to judge how good they are.",
            sample,
        ),
        (
            "Kept labels",
            "A random sample of the labels that were confirmed, of each class.",
            _of_each_class(confirmed, run.proposed),
        ),
    )
    n_held = Counter(actions[run.held_out].tolist())
    return tuple(
        Gallery(
            title,
            about + _beside(n_held[actions[rows[0]]]),
            tuple(rows[:SHOWN].tolist()),
            len(rows),
        )
        for title, about, rows in found
        if len(rows)
    )


def _of_each_class(rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The first ``SHOWN`` rows by taking one of each class in turn, then sorted by class; the rest after."""
    turns = {row: (labels[rows[:at]] == labels[row]).sum() for at, row in enumerate(rows.tolist())}
    by_turn = np.array(sorted(turns, key=turns.__getitem__), dtype=np.int64)
    first = by_turn[:SHOWN]
    return np.concatenate([first[np.argsort(labels[first], kind="stable")], by_turn[SHOWN:]])


def _beside(held_out: int) -> str:
    """Why a gallery is of fewer images than the table of actions counts."""
    return f" {counted(held_out, 'more is', 'more are')} held out and not shown." if held_out else ""


def choose_groups(run: FinishedRun) -> tuple[Gallery, ...]:
    """Groups of near-duplicates of the audit, those with different noisy labels first; no held-out image."""
    rows_of = {name: row for row, name in enumerate(run.names)}
    found: dict[tuple[int, ...], str] = {}
    audit, _ = audit_facts(run)
    for group in audit["groups"] if audit else ():
        rows = tuple(rows_of[name] for name in group["files"] if name in rows_of)
        rows = tuple(row for row in rows if not run.held_out[row])
        if len(rows) > 1:
            found.setdefault(rows, group["title"])
    return tuple(Gallery(title, "", rows[:IN_GROUP], len(rows)) for rows, title in [*found.items()][:GROUPS])


def draw_pictures(
    images: ImageSource, rows: Iterable[int], limits: Limits, files: Callable[[int], str] = lambda _: ""
) -> Mapping[int, Picture | str]:
    """Row -> its thumbnail, or why there is none.

    Parameters
    ----------
    rows : in the order of showing; one that comes twice is in the page twice
    files : URL of an image's own file, or empty
    """
    found: dict[int, Picture | str] = {}
    left, counts = MAX_BYTES, Counter(rows)
    if isinstance(images, ReadsAhead):
        images.expect(counts)
    for row, times in counts.items():
        drawn = draw_thumbnail(images, row, SIDE, limits)
        if not isinstance(drawn, bytes):
            found[row] = drawn.reason
        elif times * len(drawn) > left:
            # Smaller ones may still fit.
            found[row] = TOO_LARGE
        else:
            left -= times * len(drawn)
            with Image.open(BytesIO(drawn), formats=["WEBP"]) as opened:
                found[row] = Picture(data_url(drawn, THUMBNAIL_TYPE), *opened.size, files(row))
    return found


def to_json(facts: Facts) -> Facts:
    """report.json: the same, without matrices that would be larger than the run's own files."""
    if len(facts["classes"]) <= MAX_CLASSES:
        return facts
    noise = facts["noise"] | dict.fromkeys(("transition", "low", "high"))
    return facts | {"noise": noise, "confusions": [one | {"counts": None} for one in facts["confusions"]]}


def annotator_facts(run: FinishedRun, counts: Json) -> Facts:
    """The most accurate annotators, those who may label at random, and the images to label once more."""
    table = read_csv(run.folder / "annotators.csv", ANNOTATOR_COLUMNS)
    rows: list[Facts] = []
    for name, labels, *numbers in table.rows:
        accuracy, low, high, agreement, spam = (float(cell or "nan") for cell in numbers[:5])
        found = {"name": name or "everybody", "labels": int(labels), "spam": spam}
        found["accuracy"] = {"estimate": accuracy, "low": low, "high": high}
        rows.append(found | {"agreement": None if math.isnan(agreement) else agreement})
    spam_first = sorted(rows, key=lambda row: -float(row["spam"]))
    gain = run.annotated["label_gain"]
    ask = [row for row in np.argsort(-gain, kind="stable")[:MAX_CELLS].tolist() if gain[row] > 0]
    return {
        **counts,
        "best": [row for row in rows if row["spam"] < SPAM][:MAX_CELLS],
        "spammers": [row for row in spam_first if row["spam"] >= SPAM][:MAX_CELLS],
        "ask": [{"file": run.names[row], "gain": float(gain[row])} for row in ask],
    }


def _data_facts(run: FinishedRun, evaluation: Json) -> Facts:
    """How many images, classes and trusted labels there were, and how they were used."""
    data, split = run.record["data"], run.record["split"]
    places = list(zip(run.actions, run.reasons, strict=True))
    usable = sum(action == "trusted" and reason != DECIDED for action, reason in places)
    # Trusted images whose trusted label a fine-tuned model did not train on.
    validation = sum(reason == VALIDATION for reason in run.reasons)
    # labels.csv does not mark the calibration images, by which the corrected labels are measured.
    validation += evaluation["systems"].get("labels_validated", {"n": 0})["n"]
    everything = evaluation.get("everything")
    return {
        "images": everything["images"] if everything else len(run),
        **({"learned_from": everything["learned_from"]} if everything else {}),
        "classes": len(run.titles),
        "trusted": data["trusted"],
        "trained_on": usable - validation,
        "validation": validation,
        "held_out": split["holdout"],
        **({"groups": data["groups"]["count"]} if "groups" in data else {}),
        "decided": data.get("decided", 0),
        "place": str(run.stored_place or ""),
    }


def _effect_of_groups(run: FinishedRun) -> float:
    """The design effect of the share of wrong labels; 1 without groups."""
    rows = (run.noisy != UNKNOWN) & (run.trusted != UNKNOWN)
    if run.groups is None or not rows.any():
        return 1.0
    return design_effect((run.noisy != run.trusted)[rows].astype(float), run.groups[rows])


def noise_facts(noise: Json, titles: Sequence[str], effect: float = 1.0) -> Facts:
    """Noise rate, transition with intervals, test of structure, whether trusted images resemble the rest."""
    return {
        **{name: noise[name] for name in ("transition", "low", "high")},
        "rate": noise["rate"],
        "pairs": noise["n_pairs"],
        "wrong": noise["n_pairs"] - int(np.trace(noise["counts"])),
        "predicted": noise.get("predicted", 0),
        "form": noise["form"],
        "summary": noise["summary"],
        "test": {**noise["symmetry"], "words": _test_words(noise)},
        "largest": _largest(noise, titles, effect) if noise["form"] == "full" else [],
        "wrong_share_by_class": noise["wrong_share_by_class"],
        "representative": {
            **noise["representative"],
            "words": _representative_words(noise["representative"]),
        },
    }


def largest_cells(counts: np.ndarray) -> list[tuple[int, int]]:
    """Row and column of the largest counts off the diagonal, the largest first."""
    off = counts - np.diag(np.diag(counts))
    order = np.argsort(-off, axis=None, kind="stable")[:MAX_CELLS].tolist()
    return [divmod(place, len(counts)) for place in order if off.flat[place] > 0]


def _largest(noise: Json, titles: Sequence[str], effect: float) -> list[Facts]:
    """The most frequent mistakes, each with its probability and interval."""
    counts, level = np.array(noise["counts"]), noise["rate"]["level"]
    # They are picked as the largest, so each interval holds for all pairs of classes at once (Bonferroni).
    pairs = len(counts) * (len(counts) - 1)
    low, high = share_bounds(counts, counts.sum(axis=1, keepdims=True), 1 - (1 - level) / pairs, effect)
    found = []
    for row, column in largest_cells(counts):
        # The estimate is shrunk towards other classes: the interval as counted is stretched to hold it.
        estimate = noise["transition"][row][column]
        ends = {
            "low": min(float(low[row, column]), estimate),
            "high": max(float(high[row, column]), estimate),
        }
        probability = {"level": level, "estimate": estimate, **ends}
        names = {"true": titles[row], "noisy": titles[column]}
        found.append({**names, "count": int(counts[row, column]), "probability": probability})
    return found


def _test_words(noise: Json) -> str:
    if not noise["n_pairs"]:
        return "Without trusted labels nothing is tested."
    test = noise["symmetry"]
    rate, spread = test["same_rate"], test["same_spread"]
    verdict = (
        "The noise is not one rate, evenly spread over the classes"
        if test["rejected"]
        else "The test found no difference between classes: the noise may be one rate, evenly spread"
    )
    words = f"{verdict} ({p_equals(test['p_value'])})."
    if spread["degrees"] == 0:  # with two classes a label can be wrong in one way only
        return words
    return (
        f"{words} One noise rate for all classes: {p_equals(rate['p_value'])}; "
        f"wrong labels spread evenly over the other classes: {p_equals(spread['p_value'])}."
    )


def _representative_words(found: Json) -> str:
    if found["features_auc"] is None and found["labels"] is None:
        return "There were too few images to test whether the trusted ones resemble the rest."
    if not found["looks_alike"]:
        return " ".join(found["warnings"])
    words = "The test found no difference between the trusted images and the rest."
    if found["features_auc"] is None:
        return words
    auc = percent(found["features_auc"]["estimate"])
    return f"{words} A classifier separates them in {auc} of pairs; 50 % is chance."


def _figures(noise: Json, evaluation: Json, effect: float) -> list[Facts]:
    """Every accuracy of the run with its interval, the noisy labels first; none without trusted labels."""
    if not noise["n_pairs"]:
        return []
    rate = noise["rate"]
    right = {
        "estimate": 1 - rate["estimate"],
        "low": 1 - rate["high"],
        "high": 1 - rate["low"],
        "level": rate["level"],
    }
    noisy: Facts = {"system": "noisy", "title": "noisy labels", "source": "trusted images", "accuracy": right}
    noisy |= {"n": noise["n_pairs"], "macro_f1": None, "calibration_error": None, "paired": None}
    noisy["balanced_accuracy"] = balanced_accuracy(np.array(noise["counts"]), effect=effect).to_json()
    same = ("source", "n", "accuracy", "calibration_error", "negative_log_likelihood", "brier", "paired")
    found = evaluation["systems"]
    return [noisy] + [
        {"system": name, "title": title, "macro_f1": found[name]["report"]["macro"]["f1"]}
        | {"balanced_accuracy": balanced_figures(found[name]).to_json()}
        | {key: found[name][key] for key in same}
        for name, title in TITLES.items()
        if name in found
    ]


def main_system(evaluation: Json) -> str:
    """Name of the figures of the model that a reader should take; empty where nothing was measured."""
    return main_figures({name: found["n"] for name, found in evaluation["systems"].items()})


def _labels_evaluation(evaluation: Json) -> str | None:
    """Name of the figures of the corrected labels."""
    names = ("labels_cross_validated", "labels_validated")
    return next((name for name in names if name in evaluation["systems"]), None)


def class_facts(run: FinishedRun, noise: Json, evaluation: Json) -> Facts:
    """Of each class: how often its labels are wrong, how well it is found, how many images have it; None for
    what was not measured.
    """
    name, k = main_system(evaluation), len(run.titles)
    # Without trusted labels no class is measured.
    unknown = [{"support": 0, "precision": None, "recall": None, "f1": None}] * k
    nothing = {"source": "", "n": 0, "report": {"confusion": np.zeros((k, k)), "classes": unknown}}
    found = evaluation["systems"].get(name, nothing)
    report = found["report"]
    predicted = np.sum(report["confusion"], axis=0).tolist()
    noisy, corrected = (
        np.bincount(labels[labels != UNKNOWN], minlength=k).tolist() for labels in (run.noisy, run.proposed)
    )
    rows = []
    for i, title in enumerate(run.titles):
        scores = report["classes"][i]
        # evaluation.json has 0 for a share of nothing; it was not measured.
        measured = scores["support"] > 0
        known = {"precision": measured and predicted[i] > 0, "recall": measured, "f1": measured}
        rows.append(
            {
                "name": title,
                "noisy": noisy[i],
                "corrected": corrected[i],
                "wrong": noise["wrong_share_by_class"][i],
                "counted": [sum(noise["counts"][i]) - noise["counts"][i][i], sum(noise["counts"][i])],
                **{key: scores[key] if is_known else None for key, is_known in known.items()},
                "support": scores["support"],
            }
        )
    if len(rows) > MAX_ROWS:
        rows = sorted(rows, key=lambda row: (row["f1"] is None, row["f1"]))[:MAX_ROWS]
    return {"source": found["source"], "of": TITLES.get(name, "nothing"), "n": found["n"], "rows": rows}


def _confusion_facts(noise: Json, evaluation: Json, titles: Sequence[str]) -> list[Facts]:
    """Noisy, corrected and predicted labels against the trusted ones."""
    found = evaluation["systems"]
    name = main_system(evaluation)
    if not name:
        return []
    main = found[name]
    source = "trusted images that were not held out"
    tables = [("Noisy against trusted labels", "noisy", source, noise["counts"])]
    labels = _labels_evaluation(evaluation)
    if labels is not None:
        source, counts = found[labels]["source"], found[labels]["report"]["confusion"]
        tables.append(("Corrected against trusted labels", "corrected", source, counts))
    title, counts = f"{TITLES[name]}: predicted against trusted labels", main["report"]["confusion"]
    tables.append((title, "predicted", main["source"], counts))
    names = [cut(name, 40) for name in titles]
    facts = []
    for title, columns, source, rows in tables:
        counts = np.array(rows, dtype=np.int64)
        largest = [
            {"trusted": titles[row], columns: titles[column], "count": rows[row][column]}
            for row, column in largest_cells(counts)
        ]
        words = describe_confusion(counts, names, "trusted", columns)
        kept = {"n": int(counts.sum()), "counts": rows, "words": words, "largest": largest}
        facts.append({"title": title, "columns": columns, "source": source, **kept})
    return facts


def _curve_facts(evaluation: Json) -> list[Facts]:
    """Reliability and risk by coverage, of the model and of the corrected labels."""
    names = [main_system(evaluation), _labels_evaluation(evaluation)]
    curves = []
    for name in names:
        found = evaluation["systems"][name] if name else {}
        if found.get("reliability"):
            same = ("source", "n", "calibration_error", "reliability")
            kept = {key: found[key] for key in same} | {"risk_coverage": found.get("risk_coverage", [])}
            curves.append({"system": name, "title": TITLES[str(name)], **kept})
    return curves


def _change_facts(run: FinishedRun, evaluation: Json) -> Facts:
    """What was done to the labels: counts and the most frequent changes."""
    changed = np.array([action == "changed" for action in run.actions], dtype=bool)
    moves = Counter(zip(run.noisy[changed].tolist(), run.proposed[changed].tolist(), strict=True))
    words = (*run.titles, "")  # UNKNOWN, -1, has the empty name
    figures = evaluation["labels"]
    counts = figures["counts"]
    if (everything := evaluation.get("everything")) is not None:
        place = {label: i for i, label in enumerate(run.labels)} | {"": UNKNOWN}
        counts = everything["actions"]
        moves = Counter({(place[noisy], place[new]): n for noisy, new, n in everything["changes"]})

    return {
        "counts": {action: counts.get(action, 0) for action in ACTIONS},
        **{key: value for key, value in figures.items() if key != "counts"},
        "moves": [
            {"noisy": words[noisy], "corrected": words[corrected], "count": count}
            for (noisy, corrected), count in moves.most_common(MAX_MOVES)
        ],
    }


def _cost_facts(run: FinishedRun, evaluation: Json) -> Facts:
    """Seconds of each stage, peak memory, bytes of the model."""
    spent = run.record["seconds"]
    order = [*STAGES, *(stage for stage in spent if stage not in STAGES)]
    return {
        **evaluation["cost"],
        "stages": [
            {"stage": stage, "what": STAGES.get(stage, stage), "seconds": spent[stage]}
            for stage in order
            if stage in spent
        ],
        "features_computed": run.record.get("features_computed"),
        "processes": run.record["processes"],
        "model": evaluation["model"],
        "machine": run.record["machine"],
    }


def _skipped_facts(run: FinishedRun) -> Facts:
    """The images that could not be used, and why."""
    file = run.folder / "image_issues.csv"
    try:
        table = read_csv(file, ISSUE_COLUMNS)
        issues = (dict(zip(table.columns or (), cells, strict=True)) for cells in table.rows)
        rows = [
            {key: row[key] for key in ("file", "reason", "detail")}
            for row in issues
            if row["severity"] == "skipped"
        ]
    except (TableError, KeyError) as error:
        raise DataError(
            f"{file}: expected the skipped images of a run ({error!r}); give the run's command again"
        ) from None
    reasons = Counter(row["reason"] for row in rows)
    return {"count": len(rows), "reasons": dict(reasons.most_common()), "first": rows[:MAX_SKIPPED]}


def audit_facts(run: FinishedRun) -> tuple[Facts | None, list[str]]:
    """What ``assay audit`` found: counts of each kind and the first findings; and notes on what is left out.

    None without an audit, or where audit.json is of another state of the run.
    """
    file = run.folder / "audit.json"
    if not file.is_file():
        return None, []
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if found.get("run") != run_digests(run.record):
            return None, ["audit.json is not of this run and is left out; run assay audit again"]
        same = ("redundant", "outliers", "confused_labels", "look_alikes")
        facts = {key: found[key] for key in same}
        facts["images_in_near_duplicates"] = found["counts"]["images_in_near_duplicates"]
        facts["kinds"] = []
        facts["groups"] = [
            {"title": title, "files": [row["file"], *row["others"]]}
            for kind, title in (
                ("noisy_conflict", "Different noisy labels"),
                ("near_duplicates", "The same noisy label"),
            )
            for row in found["findings"][kind]
        ]
        for kind, words in KINDS.items():
            rows = found["findings"][kind][:MAX_FINDINGS]
            first = [{"file": row["file"], "others": row["others"], "score": row["score"]} for row in rows]
            facts["kinds"].append(
                {"kind": kind, "what": words, "count": found["counts"][kind], "first": first}
            )
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise DataError(
            f"{file}: expected what assay audit writes ({error!r}); delete it, or run assay audit again"
        ) from None
    return facts, []


def _reproduce_facts(run: FinishedRun) -> Facts:
    """The command, and all that the same bytes depend on."""
    record = run.record
    same = ("settings", "versions", "machine", "backbone", "data", "split", "holdout_evaluations")
    command = record.get("command", [])
    seed = record["settings"]["seed"]
    return {"command": command, "shell": shlex.join(command), "seed": seed} | {k: record[k] for k in same}


def _summary(facts: Json) -> Iterator[str]:
    """A handful of sentences for readers of nothing else."""
    data, noise, changes = facts["data"], facts["noise"], facts["changes"]
    yield noise["summary"]
    if not noise["pairs"]:
        yield "No label was checked, and nothing is measured."
    counts, right, sure = changes["counts"], changes["accuracy"], changes["accuracy_where_sure"]
    yield (
        f"{counted(counts['changed'], 'label')} were changed with confidence, {counts['kept']:,} confirmed, "
        f"{counts['unsure']:,} are unsure."
    )
    figures = {row["system"]: row for row in facts["figures"]}
    if right:
        share = percent(changes["share_sure"])
        where = f", and {interval(sure)} of the {share} with high confidence" if sure else ""
        how = "On calibration images" if "labels_validated" in figures else "Cross-validated"
        yield f"{how}, {interval(right)} of the corrected labels are right{where}."
    if "assay" not in figures:
        why = why_not_measured(figures, data["held_out"])
        yield f"{why}, so the accuracy of the model itself was not measured."
    if facts["headline"]:
        yield _model_words(figures, facts["headline"])
    rows = facts["comparison"]["rows"] if facts["comparison"] else ()
    measured = [row for row in rows if row["accuracy"] is not None]
    if len(measured) > 1:
        best = max(measured, key=lambda row: row["accuracy"])
        yield (
            f"Of {len(measured)} systems on the same images {best['title']} has the highest accuracy, "
            f"{percent(best['accuracy'])}."
        )
    if facts["skipped"]["count"]:
        yield f"{counted(facts['skipped']['count'], 'image')} could not be used."
    if facts["warnings"]:
        yield f"Read the {counted(len(facts['warnings']), 'warning')} below before you rely on it."


def _model_words(figures: Json, headline: str) -> str:
    found, held_out = figures[headline], figures.get("assay")
    right, n = interval(found["accuracy"], found["n"]), found["n"]
    words = f"The model is right on {right} of {n:,} held-out images"
    if headline != "assay":
        how = "cross-validated" if headline == "assay_cross_validated" else "measured"
        words = f"The model is right on {right} of {n:,} trusted images, {how} on those not held out"
    elif found["source"] != "holdout":
        words = f"Before the refit on all images the model was right on {right} of {n:,} held-out ones"
    if not held_out or not held_out["paired"]:
        return f"{words}."
    rival = "colour histograms" if "histogram" in figures else "the same classifier on noisy labels alone"
    points = 100 * held_out["paired"]["difference"]["estimate"]
    gain = f"{abs(points):.1f} points {'more' if points >= 0 else 'less'} than {rival}"
    if headline == "assay":
        return f"{words}, {gain}."
    if held_out["n"] < FEW:
        return f"{words}; the holdout of {counted(held_out['n'], 'image')} is too small to measure it on."
    return f"{words}; on the {held_out['n']:,} held-out images it has {gain}."
