"""assay at efforts ``balanced`` and ``best``: a network is fine-tuned on the posterior and corrects it.

What the frozen features said of an image, out of fold, is never thrown away: after each epoch it is weighed
against what the student says (``fix.pool``), by the trusted labels of spies, which neither of them knows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float

from assay.correct.posterior import NO_FLOOR, Pool, calibrate, fit_pool, halves, posterior, transition_from
from assay.correct.result import CorrectedLabels
from assay.embed.backbone import TimmBackbone
from assay.evaluate import mcnemar, wilson
from assay.pipeline.exact import See
from assay.pipeline.finetune_split import FineTuneSplit
from assay.pipeline.learn import Labelled, Learned
from assay.pipeline.tta import FlipTTA
from assay.predict.flip_tta import FLIP_TTA_BELOW
from assay.train.finetune import EpochPredictions, Phase, TuningData, fine_tune
from assay.train.loop import Tuning
from assay.types import (
    UNKNOWN,
    Batch,
    Labels,
    Notify,
    Probs,
    Progress,
    Rows,
    Transition,
    ignore_message,
    silent,
)


@dataclass(frozen=True)
class Refined:
    """A fine-tuned model and the labels that it corrected."""

    learned: Learned
    backbone: TimmBackbone
    """The student's."""


@dataclass(frozen=True)
class TuningPlan:
    """Phases, networks, checkpoint and settings of one fine-tuning."""

    phases: Sequence[Phase]
    backbones: Mapping[int, TimmBackbone]
    """The pretrained network at each phase's size."""
    kept: Path
    """File of the checkpoint."""
    identity: str
    """Of the run, so that no other goes on from its checkpoint."""
    tuning: Tuning = field(default_factory=Tuning)


def refine(
    data: Labelled,
    learned: Learned,
    squares: Batch,
    see: See,
    split: FineTuneSplit,
    plan: TuningPlan,
    *,
    notify: Notify = ignore_message,
    progress: Progress = silent,
) -> Refined:
    """Fine-tune on what preset ``fast`` found; nothing here sees the holdout's trusted labels.

    Parameters
    ----------
    squares : of all images, see ``embed.squares``
    see : the images themselves, for what is said of those that were not learned from
    notify : is told the running figures
    """
    bench = _Evidence(data, learned, split)
    epochs = sum(phase.epochs for phase in plan.phases)

    def judge(told: EpochPredictions) -> Float[np.ndarray, "R K"]:
        likely = bench.corrected(told) if len(told.rows) else told.probs
        notify(bench.words(told, likely, epochs))
        return likely

    tuning_data = TuningData(
        squares,
        split.learn,
        bench.taught,
        learned.corrected.posterior,
        split.calibration_rows,
        split.validation,
    )
    tuned = fine_tune(
        tuning_data,
        plan.phases,
        plan.backbones,
        judge,
        plan.tuning,
        seed=data.seed,
        workers=data.workers,
        kept=plan.kept,
        identity=plan.identity,
        progress=progress,
    )
    learned_from = np.isin(np.arange(len(data.noisy)), split.learn)
    looks = FlipTTA(tuned, squares, see, learned_from, data.usable, data.workers, progress)
    return Refined(_conclude(bench, looks), tuned.backbone)


def beside_before(before: Learned, after: Learned, validation: Rows, trusted: Labels) -> str:
    """How right both are of images that neither learned from; a warning where fine-tuning made it worse, if
    that can be told from chance.
    """
    truth, said = trusted[validation], [one.unseen[validation].argmax(axis=1) for one in (before, after)]
    earlier, now = (100 * (one == truth).mean() for one in said)
    n = len(validation)
    words = f"of {n:,} images not learned from: {earlier:.1f} % before fine-tuning, {now:.1f} % after"
    if mcnemar(truth, *said).difference.high >= 0:
        return f"right {words}"
    return (
        f"warning: right {words}; this model may be smaller than that of --preset fast, but it is less "
        "accurate: more images or --preset best may change that"
    )


@dataclass(frozen=True)
class _Evidence:
    """What is known of the images besides the student."""

    data: Labelled
    learned: Learned
    """At preset ``fast``."""
    split: FineTuneSplit

    @property
    def taught(self) -> Labels:
        """Trusted and decided labels that the student learns."""
        taught = (self.data.trusted if self.data.known is None else self.data.known).copy()
        taught[self.split.calibration_rows] = taught[self.split.validation] = UNKNOWN
        return taught

    def opinions(self, says: Float[np.ndarray, "R K"], rows: Rows) -> list[Float[np.ndarray, "R K"]]:
        """Of frozen features, and of the student, about some rows."""
        return [self.learned.corrected.pred_probs[rows], says]

    def pool(self, says: Float[np.ndarray, "J K"], judges: Rows) -> Pool:
        """The worth of both opinions and of the given label, by the trusted labels of the judges."""
        return fit_pool(
            self.opinions(says, judges), self.data.noisy[judges], self.data.trusted[judges], self.transition
        )

    @cached_property
    def transition(self) -> Transition:
        """P(given | true), from pairs of images that judge nothing: none tells its own label."""
        trusted, noise = self.data.trusted.copy(), self.learned.noise
        trusted[self.split.calibration_rows] = trusted[self.split.validation] = UNKNOWN
        return transition_from(self.data.noisy, trusted, noise.transition, self.data.seed)

    def corrected(self, told: EpochPredictions) -> Float[np.ndarray, "R K"]:
        """The posterior of the rows that the student was asked about.

        Each half of the spies by what the other half weighs: a target that knew its own trusted label would
        be learned, and spies be taken for better than other images are.
        """
        judges, calibration_rows = (
            np.flatnonzero(np.isin(told.rows, self.split.calibration_rows)),
            self.split.calibration_rows,
        )
        says = told.probs[judges]
        likely = self.weighed(self.pool(says, calibration_rows), told.probs, told.rows)[1]
        for weighing, weighed in halves(np.arange(len(calibration_rows))):
            pool = self.pool(says[weighing], calibration_rows[weighing])
            likely[judges[weighed]] = self.weighed(pool, says[weighed], calibration_rows[weighed])[1]
        return likely

    def weighed(self, pool: Pool, says: Float[np.ndarray, "R K"], rows: Rows) -> tuple[Probs, Probs]:
        """Belief and posterior of some rows."""
        pred_probs = pool.pred_probs(self.opinions(says, rows))
        return pred_probs, posterior(
            self.data.for_posterior[rows], pred_probs, self.transition, pool.strength
        )

    def words(self, told: EpochPredictions, likely: Float[np.ndarray, "R K"], epochs: int) -> str:
        """The running figures; ``likely`` is what ``corrected`` found."""
        truth, n = self.data.trusted, len(self.split.validation)
        right = int(np.sum(told.validation.argmax(axis=1) == truth[self.split.validation]))
        share = wilson(right, n)
        line = (
            f"epoch {told.epoch + 1} of {epochs}, {told.size} px: "
            f"{100 * share.estimate:.1f} % ({100 * share.low:.1f} to {100 * share.high:.1f}) right of {n:,} "
            "images not learned from"
        )
        if not len(told.rows):
            return line
        corrected = (
            likely[np.isin(told.rows, self.split.calibration_rows)].argmax(axis=1)
            == truth[self.split.calibration_rows]
        )
        return f"{line}, {100 * corrected.mean():.1f} % of the fixed labels"


def _conclude(bench: _Evidence, looks: FlipTTA) -> Learned:
    """The calibrated model, and labels that are fixed by all that is known.

    Images that were not learned from have a pool of their own: their given label was never memorised.
    """
    data, split = bench.data, bench.split
    pred_probs, likely, strength = (
        bench.learned.corrected.pred_probs.copy(),
        bench.learned.corrected.posterior.copy(),
        1.0,
    )
    plain, new = looks.again(), np.setdiff1d(np.flatnonzero(data.usable), split.learn)
    for judges, rows in ((split.validation, new), (split.calibration_rows, split.learn)):
        for fitted_on, told in [*halves(judges), (judges, np.setdiff1d(rows, judges))]:
            pool = bench.pool(plain[fitted_on], fitted_on)
            pred_probs[told], likely[told] = bench.weighed(pool, plain[told], told)
        strength = pool.strength
    # As the saved head has it, which cannot hold a probability up.
    calibration = calibrate(plain[split.validation], data.trusted[split.validation], NO_FLOOR)
    # Of images that were learned from nobody asks what the model says: their labels are fixed.
    says = np.full_like(plain, 1 / plain.shape[1])
    says[new] = looks.again(calibration, new)
    unseen = says.copy()
    for fitted_on, told in halves(split.validation):
        half = calibrate(plain[fitted_on], data.trusted[fitted_on], NO_FLOOR)
        unseen[told] = looks.again(half, told)
    corrected = CorrectedLabels(
        data.for_posterior,
        data.trusted,
        pred_probs,
        likely,
        data.usable,
        strength,
        data.threshold,
        checked=np.isin(np.arange(len(plain)), split.calibration_rows),
    )
    return replace(
        bench.learned,
        head=looks.tuned.head.calibrated(calibration.inverse_temperature, calibration.bias),
        corrected=corrected if data.known is None else corrected.relying_on(data.known),
        says=lambda rows: says[rows],
        unseen=unseen,
        validation=split.validation,
        flip_tta_below=FLIP_TTA_BELOW,
    )
