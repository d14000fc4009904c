"""What a review is worth: reviewed images against right labels, each order against a random one; and speed.

    python benchmarks/review.py --data FOLDER [--keep FOLDER] [--only orders loop speed]

FOLDER is as for benchmarks/course.py, whose ``--keep`` holds features that need not be computed again. The
notebook's holdout and 2,000 other images with trusted labels are left out of all runs; of the other 6,000,
1,000 labels are trusted, and 5,000 are kept aside to answer in a person's place. So the accuracies are of
images whose labels nothing has seen but the review itself. ``speed`` takes all 50,000 images. Results are
written to benchmarks/results/review.json.
"""

import argparse
import csv
import http.client
import json
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from _shared import ASSAY, image_names, keep, label_words, run_assay, zip_some

from assay.data.split import draw_holdout
from assay.data.write import write_rows
from assay.review import STRATEGIES, ReviewRun, order_images, read_review_run
from assay.types import Labels

POINTS = (50, 100, 200, 500, 1_000)
LOOPS = (("mixed", 200), ("random", 200), ("mixed", 1_000), ("random", 1_000))
TRUSTED, TEST, RESAMPLES, LOOKS = 1_000, 2_000, 1_000, 300


def main() -> None:
    """Measure what was asked for, print it, keep the rest of the results file as it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=MEASURES, default=list(MEASURES))
    parser.add_argument("--keep", type=Path, help="folder for runs and cache; default: a temporary one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        trial = Trial(arguments.data, (arguments.keep or Path(temporary)).resolve())
        trial.place.mkdir(parents=True, exist_ok=True)
        for name in arguments.only:
            keep("review", name, MEASURES[name](trial))


@dataclass(frozen=True)
class Trial:
    """The data, parted."""

    data: Path
    place: Path

    @cached_property
    def parts(self) -> dict[str, Labels]:
        """Rows of the images: ``trusted``, ``pool`` and ``test``."""
        known = np.array([int(line) for line in self.truth])
        fit = draw_holdout(known, how="notebook").fit
        shuffled = np.random.default_rng(0).permutation(fit)
        ends = (TEST, TEST + TRUSTED)
        return {
            "test": np.sort(shuffled[: ends[0]]),
            "trusted": np.sort(shuffled[ends[0] : ends[1]]),
            "pool": np.sort(shuffled[ends[1] :]),
        }

    @cached_property
    def truth(self) -> list[str]:
        """The trusted labels of the first images."""
        return (self.data / "clean_labels.csv").read_text().split()

    @cached_property
    def noisy(self) -> list[str]:
        """The noisy label of each image."""
        return (self.data / "noisy_labels.csv").read_text().split()

    @cached_property
    def names(self) -> list[str]:
        """The images in the order of the labels."""
        return image_names(self.data)

    def archive(self, name: str, rows: Labels) -> Path:
        """A zip of some of the images."""
        target = self.place / name
        if not target.exists():
            zip_some(self.data, [self.names[row] for row in rows.tolist()], target)
        return target

    def run(self, name: str, decisions: Path | None = None) -> Path:
        """A run on all images but the holdout and the test images, with 1,000 trusted labels."""
        out, trusted = self.place / name, self.parts["trusted"]
        sealed = draw_holdout(np.array([int(line) for line in self.truth]), how="notebook").holdout
        left = np.setdiff1d(np.arange(len(self.noisy)), np.union1d(sealed, self.parts["test"]))
        files = {"noisy": (left, self.noisy), "trusted": (trusted, self.truth)}
        for kind, (rows, labels) in files.items():
            columns = [[self.names[row] for row in rows], [labels[row] for row in rows]]
            write_rows(self.place / f"{kind}.csv", ("file_name", "label"), columns)
        words = ["--noisy", str(self.place / "noisy.csv"), "--trusted", str(self.place / "trusted.csv")]
        more = [] if decisions is None else ["--decisions", str(decisions)]
        archive = self.archive("learn.zip", left)
        self.assay("run", str(archive), *words, *more, "-o", str(out), "--holdout", "0", "--quiet")
        return out

    def assay(self, *words: str) -> None:
        """One command, with the cache of this trial."""
        run_assay(*words, cache=self.place / "cache")

    def of(self, run: ReviewRun, part: str) -> tuple[Labels, Labels]:
        """Rows of ``run`` in a part of the data, and their true classes."""
        row_of = {name: row for row, name in enumerate(run.names)}
        index = {label: i for i, label in enumerate(run.labels)}
        rows = np.array([row_of[self.names[row]] for row in self.parts[part]])
        return rows, np.array([index[self.truth[row]] for row in self.parts[part]])


def orders(trial: Trial) -> dict[str, Any]:
    """Right labels in the pool after so many looks, by order; resampled images give the intervals."""
    run = read_review_run(trial.run("base"), trial.place / "learn.zip")
    rows, truth = trial.of(run, "pool")
    noisy, proposed, sure = run.noisy[rows], run.proposed[rows], run.confidence[rows]
    generator = np.random.default_rng(0)
    curves: dict[str, list[list[float]]] = {strategy: [] for strategy in STRATEGIES}
    for seed in range(RESAMPLES + 1):
        # The first is the pool itself, each other one drawn from it.
        drawn = np.arange(len(rows)) if seed == 0 else generator.integers(0, len(rows), len(rows))
        wrong = proposed[drawn] != truth[drawn]
        is_open = np.ones(len(drawn), dtype=bool)
        for strategy, found in curves.items():
            order = order_images(
                noisy[drawn], proposed[drawn], sure[drawn], is_open, strategy=strategy, seed=seed
            ).rows
            corrected = np.cumsum(wrong[order])
            found.append([float(corrected[n - 1]) / len(drawn) for n in POINTS])
    before = float(np.mean(proposed == truth))
    return {
        "images": len(rows),
        "labels_right": {"noisy": float(np.mean(noisy == truth)), "corrected": before},
        "gain": {strategy: _summary(np.array(found)) for strategy, found in curves.items()},
        "more_than_random": {
            strategy: _summary(np.array(found) - np.array(curves["random"]))
            for strategy, found in curves.items()
            if strategy != "random"
        },
    }


def _summary(found: np.ndarray) -> dict[str, Any]:
    """Mean over the resamples with its 95 % interval, at each number of looks."""
    low, high = np.percentile(found[1:], [2.5, 97.5], axis=0)
    mean = found[1:].mean(axis=0)
    return {
        str(n): {"estimate": round(e, 5), "low": round(a, 5), "high": round(b, 5)}
        for n, e, a, b in zip(POINTS, mean.tolist(), low.tolist(), high.tolist(), strict=True)
    }


def loop(trial: Trial) -> dict[str, Any]:
    """Run, review, run: the second model and its labels beside the first ones, on images never reviewed."""
    base = trial.run("base")
    first, before = read_review_run(base, trial.place / "learn.zip"), _right_predictions(trial, base)
    found = {"before": _figures(trial, (first, first), np.arange(0), (before, before))}
    for strategy, looks in LOOPS:
        reviewed, file = _decide(trial, first, strategy, looks)
        out = trial.run(file.stem, file)
        second, after = read_review_run(out, trial.place / "learn.zip"), _right_predictions(trial, out)
        found[file.stem] = _figures(trial, (first, second), reviewed, (before, after))
        print(file.stem, json.dumps(found[file.stem]), flush=True)
    return found


def _decide(trial: Trial, run: ReviewRun, strategy: str, looks: int) -> tuple[Labels, Path]:
    """The rows that are looked at in the pool, and a file with what a person says of them."""
    rows, truth = trial.of(run, "pool")
    is_open = np.zeros(len(run), dtype=bool)
    is_open[rows] = True
    order = order_images(run.noisy, run.proposed, run.confidence, is_open, strategy=strategy)
    reviewed, said = order.rows[:looks], dict(zip(rows.tolist(), truth.tolist(), strict=True))
    file = trial.place / f"{strategy}-{looks}.csv"
    columns = [[run.names[row] for row in reviewed], [run.labels[said[row]] for row in reviewed.tolist()]]
    write_rows(file, ("file_name", "label"), columns)
    return reviewed, file


def _figures(
    trial: Trial, runs: tuple[ReviewRun, ReviewRun], reviewed: Labels, right: tuple[np.ndarray, np.ndarray]
) -> dict[str, Any]:
    """Of the second run; ``right`` says of each test image whether the model of each run is right."""
    rows, truth = trial.of(runs[0], "pool")
    before, after = (run.proposed[rows] == truth for run in runs)
    rest = ~np.isin(rows, reviewed)
    change = right[1].astype(float) - right[0]
    drawn = change[np.random.default_rng(0).integers(0, TEST, (RESAMPLES, TEST))].mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return {
        "labels_right": float(after.mean()),
        "labels_right_not_reviewed": float(after[rest].mean()),
        "the_same_before": float(before[rest].mean()),
        "model_accuracy": float(right[1].mean()),
        "model_gain": {"estimate": float(change.mean()), "low": float(low), "high": float(high)},
    }


def _right_predictions(trial: Trial, run: Path) -> np.ndarray:
    target, rows = trial.place / "predicted.csv", trial.parts["test"]
    archive = trial.archive("test.zip", rows)
    trial.assay("predict", str(run), str(archive), "-o", str(target), "--quiet")
    with target.open() as file:
        said = {row["name"]: row["label"] for row in csv.DictReader(file)}
    return np.array([said[trial.names[row]] == trial.truth[row] for row in rows])


def speed(trial: Trial) -> dict[str, Any]:
    """A review of all images as a process: the first page, and decision, card and image of the next ones."""
    out = trial.place / "all"
    words = [*label_words(trial.data), "-o", str(out), "--holdout-split", "notebook", "--quiet"]
    trial.assay("run", str(trial.data / "images.zip"), *words)
    (out / "decisions.sqlite").unlink(missing_ok=True)
    environment = {**os.environ, "ASSAY_CACHE": str(trial.place / "cache")}
    start = time.perf_counter()
    server = subprocess.Popen(
        [str(ASSAY), "review", str(out), "--no-browser", "--quiet"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    address = (server.stdout.readline() if server.stdout else "").strip()
    ready_s = time.perf_counter() - start
    try:
        return {"ready_s": round(ready_s, 3), **_looks(address)}
    finally:
        server.terminate()
        server.communicate()


def _looks(address: str) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", int(address.split(":")[2].partition("/")[0]))
    headers = {"Authorization": f"Bearer {address.partition('token=')[2]}"}

    def ask(path: str, sent: Any = None) -> bytes:
        body = None if sent is None else json.dumps(sent)
        more = {} if sent is None else {"Content-Type": "application/json"}
        connection.request("GET" if sent is None else "POST", path, body, headers | more)
        answer = connection.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{path} was answered with {answer.status}: {data[:200]!r}")
        return data

    start = time.perf_counter()
    page = ask("/").decode()
    item = int(page.partition('data-item="')[2].partition('"')[0])
    ask(f"/image/{item}/large")
    first = time.perf_counter() - start
    seconds: dict[str, list[float]] = {"decide": [], "card": [], "image": [], "next": []}
    for look in range(LOOKS):
        times = [time.perf_counter()]
        choice = {"item": item, "label": look % 10, "revision": 0}
        item = json.loads(ask("/decide", {"client": "speed", "choices": [choice]}))["next"]
        for path in (f"/card/{item}", f"/image/{item}/large"):
            times.append(time.perf_counter())
            ask(path)
        times.append(time.perf_counter())
        for name, spent in zip(seconds, (*np.diff(times), times[-1] - times[0]), strict=True):
            seconds[name].append(float(spent))
    return {
        "first_page_s": round(first, 4),
        "milliseconds": {name: _spread(found) for name, found in seconds.items()},
    }


def _spread(seconds: list[float]) -> dict[str, float]:
    found = np.percentile(seconds, [50, 95, 100]) * 1000
    return dict(zip(("median", "p95", "most"), np.round(found, 1).tolist(), strict=True))


MEASURES = {"orders": orders, "loop": loop, "speed": speed}


if __name__ == "__main__":
    main()
