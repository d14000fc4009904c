"""Whether the forecast of ``assay plan`` comes true: the curve's first points foretell its last ones.

    python benchmarks/plan.py --run RUN --images IMAGES --cache CACHE

RUN is a finished run on IMAGES whose features are in CACHE. The learning curve is measured at six sizes, of
the trusted images outside a tested third from 1/32 on. From the first three and the first four of them, what
twice and four times as many labels give is foretold, and compared with what was measured there. Results are
written to benchmarks/results/plan.json.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from _shared import machine, write_results

from assay.data.split import Split
from assay.evaluate.learning_curve import LearningCurve
from assay.pipeline.finished import open_run, stored_features
from assay.pipeline.holdout import mask_holdout
from assay.pipeline.options import RunOptions
from assay.pipeline.plan import FOLDS, measure_label_value
from assay.pipeline.run_files import HOLDOUT
from assay.types import UNKNOWN

SHARES = (1 / 32, 1 / 16, 0.125, 0.25, 0.5, 1.0)
KNOWN = (3, 4)
AHEAD = (2, 4)


def main() -> None:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    place = parser.parse_args()
    run = open_run(place.run, place.images, command="plan")
    dataset, features = stored_features(run, run.images, place.cache)
    held = np.flatnonzero([reason == HOLDOUT for reason in run.reasons])
    split = Split(np.flatnonzero(run.trusted != UNKNOWN), held)
    partition = mask_holdout(dataset, split, features, RunOptions(folds=FOLDS))
    begun = time.perf_counter()
    worth = measure_label_value(partition.data, len(held), shares=SHARES)
    found: dict[str, Any] = {"seconds": round(time.perf_counter() - begun), "machine": machine()}
    for name, curve in (("model", worth.model), ("labels", worth.labels)):
        found[name] = {
            "measured": dict(zip(map(str, curve.sizes.tolist()), curve.accuracy.tolist(), strict=True)),
            "foretold": [row for known in KNOWN for row in foretell(curve, known)],
        }
    write_results("plan", found)
    print(json.dumps(found, indent=1))


def foretell(curve: LearningCurve, known: int) -> list[dict[str, Any]]:
    """From the first ``known`` sizes."""
    first, present = LearningCurve(curve.sizes[:known], curve.right[:known]), int(curve.sizes[known - 1])
    rows = []
    for times, one in zip(AHEAD, first.expect(present, [times * present for times in AHEAD]), strict=True):
        at = int(np.argmin(np.abs(curve.sizes - one.n)))
        rows.append(
            {
                "from": curve.sizes[:known].tolist(),
                "times": times,
                "foretold": one.accuracy.to_json(),
                "gain": one.gain.to_json(),
                "measured": float(curve.accuracy[at]),
                "measured_gain": float(curve.accuracy[at] - curve.accuracy[known - 1]),
            }
        )
    return rows


if __name__ == "__main__":
    main()
