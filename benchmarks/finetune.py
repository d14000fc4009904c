"""What an effort reaches, what it takes, and how its model bears damaged images.

    python benchmarks/finetune.py --data FOLDER [--preset balanced] [--student-size 96] [--seed 0]
        [--cache CACHE] [--keep OUT] [--open-seal]

FOLDER is that of course.py; the holdout is the notebook's. One ``assay run`` as a process of its own, then
the saved model on images as they are and damaged: on those that the run kept aside (validation), and, with
--open-seal, for a final table, on the partition ones. Choices are made on the former alone. Results go to
benchmarks/results/finetune.json, under effort, size and seed.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from _shared import label_words, machine, read_results, run_assay, write_results

from assay.data.dataset import Dataset, ReadOptions
from assay.data.read import read_dataset
from assay.data.split import draw_holdout
from assay.embed.backbone import load_backbone
from assay.pipeline.finished import read_finished_run, stored_features
from assay.pipeline.holdout import Partition, mask_holdout
from assay.pipeline.options import RunOptions
from assay.pipeline.robustness import measure_robustness
from assay.predict.model import read_model


def main() -> None:
    """Run, read what the run says, damage images."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, help="of features; default: a temporary one")
    parser.add_argument("--keep", type=Path, help="folder for the run; default: a temporary one")
    parser.add_argument("--preset", default="balanced")
    parser.add_argument("--student-size", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--open-seal", action="store_true", help="damage the holdout images too")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        cache, out = asked.cache or Path(scratch) / "cache", asked.keep or Path(scratch) / "out"
        found = {"machine": machine(), **run(asked, out, cache), "damaged": damaged(asked, out, cache)}
    sized = f" at {asked.student_size} px" if asked.student_size else ""
    write_results("finetune", read_results("finetune") | {f"{asked.preset}{sized} {asked.seed}": found})
    print(json.dumps(found, indent=1))


def options(asked: argparse.Namespace, cache: Path) -> RunOptions:
    """Those of the run, as far as they decide who sees which image."""
    read = ReadOptions(noisy=asked.data / "noisy_labels.csv", trusted=asked.data / "clean_labels.csv")
    return RunOptions(read=read, cache=cache, holdout_split="notebook", seed=asked.seed)


def run(asked: argparse.Namespace, out: Path, cache: Path) -> dict[str, Any]:
    """One ``assay run``; a finished one in ``out`` is taken as it is."""
    words = ["run", asked.data / "images.zip", *label_words(asked.data), "-o", out]
    more = ["--holdout-split", "notebook", "--preset", asked.preset, "--seed", asked.seed, "--json"]
    if asked.student_size:
        more += ["--student-size", asked.student_size]
    begun = (out / "run.json").is_file()
    took = run_assay(*words, *more, cache=cache)
    found, record = json.loads(took.printed), json.loads((out / "run.json").read_text())
    return {
        "stages_s": record["seconds"],
        # What an earlier process spent on the run is not known.
        "processor_s": None if begun else took.processor_s,
        "fine_tuning": record.get("fine_tuning"),
        "cost": found["cost"],
        "labels": found["labels"],
        "accuracy": {
            name: report["accuracy"] | {"n": report["n"]} for name, report in found["systems"].items()
        },
    }


def damaged(asked: argparse.Namespace, out: Path, cache: Path) -> dict[str, Any]:
    """Accuracy by damage, of the watched images as the run measured it, and of the partition ones."""
    found = {"validation": json.loads((out / "evaluation.json").read_text())["robustness"]}
    if asked.open_seal:
        dataset, partition = reseal(asked, out, cache)
        rows = partition.evaluated
        measured = measure_robustness(read_model(out), dataset, rows, dataset.trusted[rows])
        found["holdout"] = measured.to_json() if measured else None
    return found


def reseal(asked: argparse.Namespace, out: Path, cache: Path) -> tuple[Dataset, Partition]:
    """The data, and the parts that the run made of it."""
    finished = read_finished_run(out)
    dataset = read_dataset(asked.data / "images.zip", options(asked, cache).read)
    _, features = stored_features(finished, dataset.source, cache)
    split = draw_holdout(dataset.trusted, how="notebook", seed=asked.seed)
    dataset, told = features.seen(dataset), options(asked, cache)
    backbone = load_backbone(told.backbone, cache, size=told.size)
    return dataset, mask_holdout(dataset, split, features, told, backbone)


if __name__ == "__main__":
    main()
