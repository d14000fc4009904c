"""Do other tools read what assay labels writes, and what does it cost to write it?

    python benchmarks/tools.py --run RUN [--images PLACE] [PYTHON ...]

Writes every format of a finished run into a temporary folder, each by a process of its own: seconds, and the
most memory of the process. Each PYTHON is an interpreter that has one or more of datasets, cleanlab,
label-studio-sdk, pycocotools and fiftyone; those that it has read the files, and print their version and what
they found. FiftyOne needs mongomock beside it, which takes the place of its MongoDB server. Results go to
benchmarks/results/tools.json, a part for each number of images.
"""

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from _shared import ASSAY, keep, measure

TARGETS = {
    "csv": "corrected.csv",
    "jsonl": "corrected.jsonl",
    "parquet": "corrected.parquet",
    "folders": "folders",
    "huggingface": "huggingface",
    "coco": "coco.json",
    "fiftyone": "fiftyone.json",
    "label-studio": "label-studio.json",
}

CHECKS = {
    "datasets": """
from datasets import load_dataset
for name in ("folders", "huggingface"):
    rows = load_dataset("imagefolder", data_dir=name, split="train", cache_dir="cache")
    found[name] = {"rows": len(rows), "label": str(rows.features["label"]), "size": rows[0]["image"].size}
""",
    "cleanlab": """
import numpy as np
from cleanlab.filter import find_label_issues
with np.load("cleanlab.npz") as arrays:
    labels, probs, ours = arrays["labels"], arrays["pred_probs"], arrays["is_issue"]
issues = find_label_issues(labels, probs)
ranked = find_label_issues(labels, probs, return_indices_ranked_by="self_confidence")
found["cleanlab"], found["assay"], found["both"] = (int(one.sum()) for one in (issues, ours, issues & ours))
found["ranked"] = len(ranked)
""",
    "label_studio_sdk": """
from label_studio_sdk.label_interface import LabelInterface
interface = LabelInterface(open("label-studio.xml").read())
tasks = json.load(open("label-studio.json"))
checks = {"predictions": interface.validate_prediction, "annotations": interface.validate_annotation}
for kind, check in checks.items():
    every = [one for task in tasks for one in task.get(kind, ())]
    found[kind] = {"all": len(every), "valid": sum(map(check, every))}
""",
    "pycocotools": """
from pycocotools.coco import COCO
coco = COCO("coco.json")
found["images"], found["annotations"] = len(coco.getImgIds()), len(coco.getAnnIds())
found["categories"] = len(coco.getCatIds())
""",
    "fiftyone": """
import mongomock, mongomock.store, pymongo
store = mongomock.store.ServerStore()
class Client(mongomock.MongoClient):
    _closed = False
    def __init__(self, host=None, port=None, document_class=dict, tz_aware=False, **_):
        super().__init__(host, port, document_class, tz_aware, _store=store)
    def server_info(self):
        return {"version": "7.0.0", "versionArray": [7, 0, 0, 0]}
pymongo.MongoClient = Client
import mongoengine.connection
mongoengine.connection.MongoClient = Client
import fiftyone
data = fiftyone.Dataset.from_json("fiftyone.json")
found["samples"], found["actions"] = len(data), data.count_values("action")
found["corrected"] = sum(sample.corrected is not None for sample in data)
found["most_mistaken"] = data.sort_by("mistakenness", reverse=True).first().mistakenness
found["fields"] = {name: type(kind).__name__ for name, kind in data.get_field_schema().items()}
""",
}

FRAME = """
import importlib.metadata, importlib.util, json
if importlib.util.find_spec("{module}") is None:
    raise SystemExit
found = {{"version": importlib.metadata.version("{package}")}}
{check}
print("\\n" + json.dumps(found))
"""


def main() -> None:
    """Write, then let the others read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--images", help="where its images are now")
    parser.add_argument("pythons", nargs="*", metavar="PYTHON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        found: dict[str, Any] = {"written": write(arguments.run, arguments.images, place)}
        if (arguments.run / "pred_probs.npy").is_file():
            write_arrays(arguments.run, place / "cleanlab.npz")
        found["read"] = {
            module: facts
            for python in arguments.pythons
            for module in CHECKS
            if (facts := read(python, module, place)) is not None
        }
    with (arguments.run / "labels.csv").open(encoding="utf-8") as rows:
        keep("tools", f"{sum(1 for _ in rows) - 1:,} images", found)


def write(run: Path, images: str | None, place: Path) -> dict[str, Any]:
    """Seconds and memory of each format."""
    found: dict[str, Any] = {}
    for kind, target in TARGETS.items():
        command = [str(ASSAY), "labels", str(run), *([images] if images else []), "-o", str(place / target)]
        found[kind] = measure([*command, "--format", kind, "--quiet"], place)
    return found


def write_arrays(run: Path, target: Path) -> None:
    """What ``to_cleanlab`` gives, for another process."""
    import numpy as np

    import assay

    arrays = assay.load_run(run).to_cleanlab()
    np.savez(target, labels=arrays.labels, pred_probs=arrays.pred_probs, is_issue=arrays.is_issue)


def read(python: str, module: str, place: Path) -> dict[str, Any] | None:
    """What a library found in the files; None where this Python does not have it."""
    if module == "cleanlab" and not (place / "cleanlab.npz").exists():
        return None
    code = FRAME.format(module=module, package=module.replace("_", "-"), check=CHECKS[module])
    # Nothing of this environment may be found by the other one.
    quiet = {
        "HOME": str(place),
        "PATH": os.environ["PATH"],
        "FIFTYONE_DO_NOT_TRACK": "true",
        "FIFTYONE_DATABASE_URI": "mongodb://localhost",
    }
    done = subprocess.run(
        [python, "-c", code], cwd=place, env=quiet, capture_output=True, text=True, check=False, timeout=600
    )
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1]}
    lines = done.stdout.strip().splitlines()
    return dict(json.loads(lines[-1])) if lines else None


if __name__ == "__main__":
    main()
