"""Learn an accurate, small image classifier from many noisy labels and a few trusted ones.

::

    import assay

    result = assay.run("images/", "out/", noisy="noisy.csv", trusted="trusted.csv")
    result.noise.rate  # how wrong the labels are, with an interval
    result.labels.issues  # images whose label is probably wrong
    result.model.predict(pictures).predicted  # arrays, PIL images, paths; one or many

Names are loaded when they are first used: importing the package loads neither torch nor scikit-learn.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.data.dataset import ReadOptions
    from assay.errors import AssayError
    from assay.noise import estimate_noise
    from assay.notebook.compare import compare
    from assay.pipeline.api import embed_images, read_dataset, run
    from assay.pipeline.result import load_run
    from assay.predict.predictor import load_model
    from assay.report import write_report
    from assay.scale.engine import Engine
    from assay.train.estimator import NoisyLabelClassifier

# From 1.29 on onnxruntime sends usage data, and keeps an identifier of this machine in the home folder,
# unless one of these was set before it is first imported; its own call to stop that comes too late.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("ORT_TELEMETRY_DISABLED", "1")

__version__ = "0.1.0.dev0"

__all__ = [
    "AssayError",
    "Engine",
    "NoisyLabelClassifier",
    "ReadOptions",
    "compare",
    "embed_images",
    "estimate_noise",
    "load_model",
    "load_run",
    "read_dataset",
    "run",
    "write_report",
]

_HOMES = {
    "AssayError": "assay.errors",
    "Engine": "assay.scale.engine",
    "NoisyLabelClassifier": "assay.train.estimator",
    "ReadOptions": "assay.data.dataset",
    "compare": "assay.notebook.compare",
    "embed_images": "assay.pipeline.api",
    "estimate_noise": "assay.noise",
    "load_model": "assay.predict.predictor",
    "load_run": "assay.pipeline.result",
    "read_dataset": "assay.pipeline.api",
    "run": "assay.pipeline.api",
    "write_report": "assay.report",
}
"""Public name -> the module that holds it; none is the name of a package of assay."""


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'assay' has no name {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
