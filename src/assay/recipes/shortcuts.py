"""The public functions, in the few words that a notebook wants."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from assay._types import Labels, Matrix, Progress, silent
from assay.data.dataset import ReadOptions
from assay.data.split import folds
from assay.embed.images import Features
from assay.fix.result import FixedLabels
from assay.learn.model import Model
from assay.predict.batch import Predictions
from assay.predict.batch import predict as predict_images
from assay.recipes.assay import Labelled, learn
from assay.recipes.options import RunOptions, default_cache
from assay.recipes.run import RunResult
from assay.recipes.run import run as run_folder


def run(
    images: Path | str,
    out: Path | str,
    *,
    noisy: Path | str | None = None,
    trusted: Path | str,
    read: ReadOptions | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
    **settings: Any,
) -> RunResult:
    """The whole job: what ``assay run`` does.

    Parameters
    ----------
    images : folder, zip, tar or Parquet file
    out : folder for the results; the same call resumes a killed run in it
    noisy, trusted : label files; without ``noisy`` the class folders are the noisy labels
    read : further options of reading
    settings : fields of ``RunOptions``, such as ``backbone``, ``size``, ``holdout``, ``seed``

    Raises
    ------
    AssayError : see ``recipes.run.run``
    """
    options = RunOptions(
        read=replace(read or ReadOptions(), noisy=Path(noisy) if noisy else None, trusted=Path(trusted)),
        **settings,
    )
    return run_folder(images, out, options, overwrite=overwrite, progress=progress)


def predict(
    model: Model | Path | str, images: Path | str, *, cache: Path | None = None, progress: Progress = silent
) -> Predictions:
    """P(class) of every image of a folder or archive, in order.

    Parameters
    ----------
    model : a Model, a model folder or a run folder
    """
    return predict_images(model, images, cache or default_cache(), progress=progress)


def fix_labels(
    features: Matrix, given: Labels, trusted: Labels, classes: tuple[str, ...], *, seed: int = 0
) -> FixedLabels:
    """What each label should be, from features of anything; UNKNOWN (-1) where there is no label.

    Parameters
    ----------
    features : (N, D)
    given, trusted : (N,) indices into ``classes``
    """
    found = Features((features,), (None,) * len(given), {}, {}, 0)
    fold_of = folds(trusted, 5, seed)
    usable = fold_of >= 0
    return learn(Labelled(found, given, trusted, usable, fold_of, classes, seed, threshold=0.8)).fixed
