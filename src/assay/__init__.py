"""Learn an accurate, small image classifier from many noisy labels and a few trusted ones.

::

    import assay

    result = assay.run("images/", "out/", noisy="noisy.csv", trusted="trusted.csv")
    result.learned.noise.rate  # how wrong the labels are, with an interval
    assay.load_model("out/").predict(pictures).predicted  # arrays, Pillow's, paths; one or many

Names are loaded when they are first used: importing the package loads neither torch nor scikit-learn.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.data.dataset import ReadOptions
    from assay.errors import AssayError
    from assay.evaluate import evaluate_predictions
    from assay.noise import estimate_noise
    from assay.pipeline.shortcuts import correct_labels, embed_images, read_dataset, run
    from assay.predict.model import Model
    from assay.predict.predictor import load_model
    from assay.report import write_report
    from assay.train.estimator import NoisyLabelClassifier

# From 1.29 on onnxruntime tells its maker what it runs, and keeps an identifier of this machine in the home
# folder, unless one of these was set before it is first imported; its own call comes too late.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("ORT_TELEMETRY_DISABLED", "1")

__version__ = "0.1.0.dev0"

__all__ = [
    "AssayError",
    "Model",
    "NoisyLabelClassifier",
    "ReadOptions",
    "correct_labels",
    "embed_images",
    "estimate_noise",
    "evaluate_predictions",
    "load_model",
    "read_dataset",
    "run",
    "write_report",
]

_HOMES = {
    "assay.errors": ("AssayError",),
    "assay.data.dataset": ("ReadOptions",),
    "assay.noise": ("estimate_noise",),
    "assay.train.estimator": ("NoisyLabelClassifier",),
    "assay.predict.model": ("Model",),
    "assay.evaluate": ("evaluate_predictions",),
    "assay.predict.predictor": ("load_model",),
    "assay.pipeline.shortcuts": ("embed_images", "correct_labels", "read_dataset", "run"),
    "assay.report": ("write_report",),
}
"""Module -> the public names that it holds."""


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'assay' has no name {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
