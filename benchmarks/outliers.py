"""Images of no class: how well they are ranked, and how many of those that belong are flagged.

    python benchmarks/outliers.py --run RUN --images IMAGES --cache CACHE [--only near far clean]

RUN is a finished run on the course images whose features are in CACHE. Near outliers: two of the ten classes
are left out of the trusted images outside the holdout, for each of the 45 pairs (``--pairs`` takes fewer):
their images get random labels of the other eight and no trusted one. Of the others a half or a tenth is
trusted. Far outliers: drawn charts, text and noise. Results go to benchmarks/results/outliers.json.
"""

import argparse
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from _shared import keep
from audit import STRANGERS, _square
from sklearn.metrics import roc_auc_score

from assay.correct.evidence import NoisyLabels
from assay.correct.near_duplicates import standardise
from assay.correct.outliers import find_outliers
from assay.correct.result import CorrectedLabels, correct_labels
from assay.data.split import folds
from assay.embed.backbone import load_backbone
from assay.pipeline.finished import open_run, stored_features
from assay.train.heads import make_head
from assay.types import UNKNOWN, Labels

DRAWN = 100
"""Far outliers of each kind."""

TRUSTED = (0.5, 0.1)
"""Share of the images that belong that is trusted."""


def main() -> None:
    """Measure what was asked for, print it, keep the rest of the results file as it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=MEASURES, default=list(MEASURES))
    parser.add_argument("--pairs", type=int, default=45)
    parser.add_argument("--rows", type=int, default=4_000)
    place = parser.parse_args()
    run = open_run(place.run, place.images, command="audit")
    _, features = stored_features(run, run.images, place.cache)
    for name in place.only:
        keep("outliers", name, MEASURES[name](place, run, features.views))


def near(place: argparse.Namespace, run: Any, views: tuple[np.ndarray, ...]) -> dict[str, Any]:
    """AUROC of the left-out classes among the images without a trusted label, over pairs of classes."""
    known = np.flatnonzero(run.trusted != UNKNOWN)[: place.rows]
    truth, noisy, k = run.trusted[known], run.noisy[known], len(run.labels)
    some = tuple(np.asarray(view[known], np.float32) for view in views)
    standard, found = standardise(some), {}
    pairs = [*combinations(range(k), 2)]
    pairs = [pairs[at] for at in np.random.default_rng(0).permutation(len(pairs))[: place.pairs]]
    for share in TRUSTED:
        scores = []
        for number, pair in enumerate(pairs):
            generator = np.random.default_rng(number)
            new, index = np.isin(truth, pair), np.full(k, UNKNOWN)
            index[[label for label in range(k) if label not in pair]] = np.arange(k - 2)
            at_random = generator.integers(0, k - 2, len(known))
            given = np.where(new | (index[noisy] == UNKNOWN), at_random, index[noisy])
            belong = np.flatnonzero(~new)
            checked = generator.permutation(belong)[: int(share * len(belong))]
            trusted = np.full(len(known), UNKNOWN)
            trusted[checked] = index[truth[checked]]
            labels = corrected(some[:1], given, trusted, k - 2)
            settled = np.where(labels.confidence >= labels.threshold, labels.corrected, UNKNOWN)
            outliers = find_outliers(
                standard, trusted != UNKNOWN, labels=settled, top_probs=labels.pred_probs.max(axis=1)
            )
            far = find_outliers(standard, trusted != UNKNOWN)
            assert outliers is not None
            assert far is not None
            rest = trusted == UNKNOWN
            ways = {
                "score": outliers.score,
                "distance alone": far.score,
                "1 - max p alone": 1 - labels.pred_probs.max(axis=1),
            }
            scores.append({name: roc_auc_score(new[rest], score[rest]) for name, score in ways.items()})
            print(share, pair, scores[-1], flush=True)
        found[f"{share:g} trusted"] = {
            name: {
                "mean": float(np.mean([one[name] for one in scores])),
                "least": float(np.min([one[name] for one in scores])),
            }
            for name in scores[0]
        }
    return {"images": len(known), "pairs": len(pairs), "auroc": found}


def corrected(views: tuple[np.ndarray, ...], noisy: Labels, trusted: Labels, k: int) -> CorrectedLabels:
    """As a run corrects them, with three folds in place of five, in less time."""
    fold_of = folds(trusted, 3, 0)
    names = [str(label) for label in range(k)]
    labels = NoisyLabels(noisy)
    return correct_labels(views, labels, trusted, fold_of, make_head, classes=names, workers=2).corrected


def far(place: argparse.Namespace, run: Any, views: tuple[np.ndarray, ...]) -> dict[str, Any]:
    """AUROC of drawn images among all others by features alone, with and without trusted images."""
    record = run.record["backbone"]
    backbone = load_backbone(record["name"], place.cache, size=record["size"])
    drawn = [STRANGERS[kind](np.random.default_rng(row)) for kind in STRANGERS for row in range(DRAWN)]
    squares = np.stack([_square(image, backbone.size) for image in drawn])
    both = (backbone.embed(squares), backbone.embed(np.ascontiguousarray(squares[:, :, ::-1])))
    features = standardise([np.concatenate([view, more]) for view, more in zip(views, both, strict=True)])
    n = len(run)
    proposed = np.where(run.confidence >= 0.8, run.proposed, UNKNOWN)
    settled = np.concatenate([proposed, np.full(len(drawn), UNKNOWN)])
    kinds, found = np.repeat(list(STRANGERS), DRAWN), {}
    for way, trusted in (("trusted", run.trusted != UNKNOWN), ("none trusted", np.zeros(n, bool))):
        known = np.concatenate([trusted, np.zeros(len(drawn), bool)])
        outliers = find_outliers(features, known, labels=settled)
        assert outliers is not None
        score, flagged = outliers.score, np.isin(np.arange(len(features)), outliers.rows)
        rest = score[:n][~known[:n]]
        found[way] = {"flagged of the images that belong": float(flagged[:n][~known[:n]].mean())}
        for kind in STRANGERS:
            theirs = score[n:][kinds == kind]
            is_drawn = np.repeat([0, 1], [len(rest), DRAWN])
            auroc = float(roc_auc_score(is_drawn, np.concatenate([rest, theirs])))
            found[way][kind] = {"auroc": auroc, "flagged": float(flagged[n:][kinds == kind].mean())}
    return found


MEASURES = {"near": near, "far": far}


if __name__ == "__main__":
    main()
