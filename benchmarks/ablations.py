"""What each step adds, at a size that can be repeated: 12,000 images, two seeds, the same images for all.

    python benchmarks/ablations.py --data FOLDER [--cache CACHE] [--only ABF]
        [--seeds 0 1] [--answers ANSWERS] [--redraw]

FOLDER is that of course.py. Judged on the trusted images of the notebook's fit part that are not among the
12,000; the partition ones are not looked at.

    A  trusted labels only, frozen features        F  the posterior, fine-tuned: assay
    B  and noisy ones, joint likelihood            G  as F, but without any noisy label
    C  and the posterior as targets                H  noisy labels taken as true, trusted ones as they are
    D  trusted labels only, fine-tuned
    J  as F, but of JPEGs of quality 30 alone, learned from and judged on: what is left to recognise in them

Letters may be done one after another: results are kept beside those that are there, and ANSWERS, a folder,
holds what each letter said, so that one done later is compared with F too.

--redraw draws the noise anew, from the trusted labels and the measured transition, and fine-tunes (F) on two
such draws; only trusted images take part. Results go to benchmarks/results/ablations.json.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from _shared import machine, read_results, write_results

from assay.correct.crossfit import TrainingData, cross_fit
from assay.correct.posterior import calibrate
from assay.correct.result import CorrectedLabels
from assay.data.dataset import ReadOptions
from assay.data.loader import ImageBatch
from assay.data.read import read_dataset
from assay.data.resize import TargetSize, to_square
from assay.data.simulate import spoil
from assay.data.split import draw_holdout
from assay.embed.backbone import load_backbone
from assay.embed.images import embed_images, fill_images, room_for_images
from assay.evaluate import mcnemar, wilson
from assay.noise import estimate_noise
from assay.pipeline.exact import See
from assay.pipeline.finetune import FlipTTA, load_student, refine
from assay.pipeline.finetune_split import FineTuneSplit, split_for_finetuning
from assay.pipeline.holdout import Partition, mask_holdout
from assay.pipeline.learn import Fitted, TrainingLabels, learn
from assay.pipeline.options import RunOptions
from assay.pipeline.presets import PRESETS, tuning_for
from assay.train.augment import compress
from assay.train.finetune import FineTuneData, fine_tune
from assay.train.heads import make_head
from assay.types import UNKNOWN, Batch, Labels, Probs, Rows

SEEDS = (0, 1)
LETTERS = "ABCDFGHJ"
PRESET = "balanced"


@dataclass(frozen=True)
class Reduced:
    """Some images to learn from, and others to be judged on."""

    data: TrainingLabels
    """Of all images; those that were not drawn have no label and no fold."""
    judged: Labels
    """Rows of trusted images that were not drawn."""
    truth: Labels
    resized_images: Batch
    split: FineTuneSplit
    options: RunOptions
    scratch: Path

    @cached_property
    def fitted(self) -> Fitted:
        """At preset ``fast``."""
        return learn(self.data)

    @cached_property
    def drawn(self) -> Labels:
        """Rows that are learned from."""
        return np.flatnonzero(self.data.fold_of != UNKNOWN)

    @property
    def ways(self) -> dict[str, Callable[[], Labels]]:
        """Letter -> predicted class of the judged images."""
        return {letter: getattr(self, f"way_{letter.lower()}") for letter in LETTERS}

    def way_a(self) -> Labels:
        """A head on frozen features, from trusted labels alone."""
        rows = self.drawn[self.data.trusted[self.drawn] != UNKNOWN]
        return self._head(rows, self._one_hot(self.data.trusted[rows]))

    def way_b(self) -> Labels:
        """The head of preset fast."""
        return self._said(self.fitted)

    def way_c(self) -> Labels:
        """A head on the posterior of all images."""
        return self._head(self.drawn, self.fitted.corrected.posterior[self.drawn])

    def way_d(self) -> Labels:
        """Fine-tuned on trusted labels alone."""
        rows = np.setdiff1d(self.drawn[self.data.trusted[self.drawn] != UNKNOWN], self.split.validation)
        return self._tuned(rows, self._one_hot(self.data.trusted), self.data.trusted)

    def way_f(self) -> Labels:
        """All of it."""
        return self._said(self._refined(self.data, self.fitted))

    def way_g(self) -> Labels:
        """Trusted labels and images without any label."""
        data = replace(self.data, noisy=np.full(len(self.data.noisy), UNKNOWN))
        nothing = np.zeros((len(data.noisy), len(data.classes)))
        examples = TrainingData(data.features.views, data.trusted, nothing)
        raw = cross_fit(examples, data.fold_of, make_head, seed=data.seed, workers=2).pred_probs
        pred_probs = calibrate(raw, data.trusted).apply(raw)
        corrected = CorrectedLabels(
            data.noisy, data.trusted, pred_probs, pred_probs, data.usable, 1.0, data.threshold
        )
        return self._said(self._refined(data, replace(self.fitted, corrected=corrected)))

    def way_h(self) -> Labels:
        """Noisy labels as if they were true."""
        return self._tuned(self.split.train, self._one_hot(self.data.noisy), self.data.trusted)

    def way_j(self) -> Labels:
        """Nothing but strong JPEGs: no model that must know other images too can bear them better."""
        seen = np.union1d(self.drawn, self.judged)
        resized_images = np.array(self.resized_images)
        resized_images[seen] = np.stack([compress(square, 30) for square in resized_images[seen]])
        return self._tuned(
            self.split.train, self.fitted.corrected.posterior, self.data.trusted, resized_images
        )

    def _one_hot(self, labels: Labels) -> Probs:
        k = len(self.data.classes)
        return np.where((labels == UNKNOWN)[:, None], 1 / k, np.eye(k)[np.maximum(labels, 0)])

    def _head(self, rows: Labels, targets: Probs) -> Labels:
        views = self.data.features.views
        X = np.concatenate([view[rows] for view in views]).astype(np.float32)
        head = make_head(self.data.seed).fit_soft(X, np.tile(targets, (len(views), 1))).layers_
        found: Labels = head.probabilities(views[0][self.judged]).argmax(axis=1)
        return found

    def _tuned(
        self, rows: Labels, targets: Probs, taught: Labels, resized_images: Batch | None = None
    ) -> Labels:
        resized_images, known = (
            self.resized_images if resized_images is None else resized_images,
            taught.copy(),
        )
        known[np.concatenate([self.split.calibration_rows, self.split.validation])] = UNKNOWN
        if len(rows) < len(self.split.train):  # trusted labels alone: those of the calibration rows teach too
            known = taught
        data = FineTuneData(resized_images, rows, known, targets, self.split.validation)
        training = self._training(len(rows))
        phases, student, tuning = (training.pop(name) for name in ("phases", "student", "tuning"))
        tuned = fine_tune(data, phases, student, tuning, seed=self.data.seed, workers=2, **training)
        trained = np.isin(np.arange(len(self.data.noisy)), rows)
        predictions = FlipTTA(
            tuned, resized_images, seen_in(resized_images), trained, self.data.usable, workers=2
        )
        found: Labels = predictions.predict(self.judged).argmax(axis=1)
        return found

    def _refined(self, data: TrainingLabels, fitted: Fitted) -> Fitted:
        training, see = self._training(len(self.split.train)), seen_in(self.resized_images)
        return refine(data, fitted, self.resized_images, see, self.split, notify=print, **training)[0]

    def _said(self, fitted: Fitted) -> Labels:
        found: Labels = fitted.probs_of(self.judged).argmax(axis=1)
        return found

    def _training(self, n: int) -> dict[str, Any]:
        """Schedule, network and an empty checkpoint for ``n`` images."""
        checkpoint = self.scratch / "state"
        checkpoint.unlink(missing_ok=True)
        return {
            "phases": PRESETS[PRESET].phases_for(n),
            "student": load_student(self.options),
            "tuning": tuning_for(n),
            "checkpoint": checkpoint,
            "identity": "ablation",
        }


def main() -> None:
    """All letters, both seeds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, help="of features; default: a temporary one")
    parser.add_argument("--images", type=int, default=12_000)
    parser.add_argument("--only", default=LETTERS, help="letters")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--answers", type=Path, help="folder of the predicted classes")
    parser.add_argument("--redraw", action="store_true", help="redrawn noise instead")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        cache = asked.cache or Path(scratch) / "cache"
        if asked.redraw:
            keep("redrawn", redrawn(asked, cache, Path(scratch)))
        else:
            ablated(asked, cache, Path(scratch))


def keep(what: str, found: dict[str, Any]) -> None:
    """Put a part into the results, beside what is there."""
    write_results("ablations", read_results("ablations") | {"machine": machine(), what: found})


def ablated(asked: argparse.Namespace, cache: Path, scratch: Path) -> None:
    """Accuracy of each letter by seed, and each beside F; kept after each letter."""
    found: dict[str, Any] = read_results("ablations").get("ablations", {})
    for seed in asked.seeds:
        answers = (asked.answers or scratch) / f"seed{seed}"
        answers.mkdir(parents=True, exist_ok=True)
        with reduced(asked, cache, scratch, seed) as part:
            for letter in asked.only:
                start = time.perf_counter()
                said = part.ways[letter]()
                np.save(answers / f"{letter}.npy", said)
                right = wilson(int((said == part.truth).sum()), len(part.truth))
                seconds = round(time.perf_counter() - start)
                row = {**right.to_json(), "n": len(part.truth), "seconds": seconds}
                found.setdefault(letter, {})[str(seed)] = row
                print(f"seed {seed}, {letter}: {right.estimate:.4f}, {seconds} s", flush=True)
                for other, gains in beside_f(part.truth, answers).items():
                    found[other][str(seed)]["f_gains"] = gains
                keep("ablations", found)


def beside_f(truth: Labels, answers: Path) -> dict[str, Any]:
    """Letter -> what F gains over it, where F was done."""
    said = {path.stem: np.load(path) for path in answers.glob("?.npy")}
    if "F" not in said:
        return {}
    paired = {letter: mcnemar(truth, found, said["F"]).to_json() for letter, found in said.items()}
    return {
        letter: {name: test[name] for name in ("difference", "p_value")} for letter, test in paired.items()
    }


@contextmanager
def reduced(asked: argparse.Namespace, cache: Path, scratch: Path, seed: int) -> Iterator[Reduced]:
    """``asked.images`` of the images that may be learned from, and the other trusted ones to judge."""
    whole, options = sealed_course(asked, cache, seed)
    fit = np.flatnonzero(whole.data.fold_of != UNKNOWN)
    drawn = np.sort(np.random.default_rng(seed).choice(fit, min(asked.images, len(fit)), replace=False))
    shown = [group for group in whole.near_duplicates if np.isin(group, drawn).any()]
    judged = np.setdiff1d(fit[whole.data.trusted[fit] != UNKNOWN], np.concatenate([drawn, *shown]))
    # Nobody needs to be asked about the others.
    usable = whole.data.usable & np.isin(np.arange(len(whole.data.usable)), np.concatenate([drawn, judged]))
    data = replace(only(whole.data, drawn), usable=usable)
    truth = whole.data.trusted[judged]
    with squares_of(asked, scratch) as resized_images:
        yield Reduced(
            data,
            judged,
            truth,
            resized_images,
            split_for_finetuning(data, whole.near_duplicates),
            options,
            scratch,
        )


def redrawn(asked: argparse.Namespace, cache: Path, scratch: Path) -> dict[str, Any]:
    """Two runs on 6,400 images that differ in nothing but their noise."""
    whole, options = sealed_course(asked, cache, seed=0)
    known = np.flatnonzero(whole.data.trusted != UNKNOWN)
    order = np.random.default_rng(0).permutation(known)
    learn_rows, judged = np.sort(order[: 4 * len(order) // 5]), np.sort(order[4 * len(order) // 5 :])
    shown = [group for group in whole.near_duplicates if np.isin(group, learn_rows).any()]
    judged = np.setdiff1d(judged, np.concatenate([judged[:0], *shown]))
    hidden = np.random.default_rng(1).permutation(learn_rows)[len(learn_rows) // 5 :]
    truth = whole.data.trusted
    transition = estimate_noise(whole.data.noisy, truth, len(whole.data.classes)).transition
    found: dict[str, Any] = {}
    with squares_of(asked, scratch) as resized_images:
        for draw in SEEDS:
            trusted = truth.copy()
            trusted[hidden] = UNKNOWN
            noisy = spoil(truth, transition, draw)
            data = only(replace(whole.data, noisy=noisy, trusted=trusted), learn_rows)
            split = split_for_finetuning(data, whole.near_duplicates)
            part = Reduced(data, judged, truth[judged], resized_images, split, options, scratch)
            right = int((part.way_f() == part.truth).sum())
            found[str(draw)] = {**wilson(right, len(judged)).to_json(), "n": len(judged)}
            print(f"draw {draw}: {right / len(judged):.4f} of {len(judged):,}", flush=True)
    return found


def only(data: TrainingLabels, rows: Labels) -> TrainingLabels:
    """The same images, of which only these have labels and a fold."""
    kept = np.isin(np.arange(len(data.noisy)), rows)
    labels = (data.noisy, data.trusted, data.fold_of)
    noisy, trusted, fold_of = (np.where(kept, part, UNKNOWN) for part in labels)
    return replace(data, noisy=noisy, trusted=trusted, fold_of=fold_of, all_noisy=None)


def sealed_course(asked: argparse.Namespace, cache: Path, seed: int) -> tuple[Partition, RunOptions]:
    """The course data, its holdout partition, with the features of one view."""
    read = ReadOptions(noisy=asked.data / "noisy_labels.csv", trusted=asked.data / "clean_labels.csv")
    options = RunOptions(read=read, cache=cache, holdout_split="notebook", preset=PRESET, seed=seed)
    dataset = read_dataset(asked.data / "images.zip", read)
    backbone = load_backbone(options.backbone, cache, size=options.size)
    features = embed_images(dataset, backbone, cache, mirrored=False)
    split = draw_holdout(dataset.trusted, how="notebook", seed=seed)
    return mask_holdout(dataset, split, features, options), options


def seen_in(resized_images: Batch) -> See:
    """Images as they are held: none of these is larger than its square."""

    def see(target: TargetSize, rows: Rows) -> Iterator[ImageBatch]:
        images = np.stack([to_square(resized_images[row], *target) for row in rows])
        yield ImageBatch(rows, rows, (images,), {}, {}, {}, 0.0)

    return see


@contextmanager
def squares_of(asked: argparse.Namespace, scratch: Path) -> Iterator[Batch]:
    """All images as they are learned from."""
    dataset = read_dataset(asked.data / "images.zip", ReadOptions())
    with room_for_images(dataset, PRESETS[PRESET].largest, scratch) as resized_images:
        fill_images(resized_images, dataset)
        yield resized_images


if __name__ == "__main__":
    main()
