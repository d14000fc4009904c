"""Learn an accurate, small image classifier from many noisy labels and a few trusted ones.

::

    import assay

    result = assay.run("images/", "out/", noisy="noisy.csv", trusted="trusted.csv")
    result.learned.noise.rate  # how wrong the labels are, with an interval
    assay.predict("out/", "new_images/").columns()

Names are loaded when they are first used: importing the package loads neither torch nor scikit-learn.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0.dev0"

_HOME = {
    "read_dataset": "assay.data.read",
    "ReadOptions": "assay.data.dataset",
    "embed_images": "assay.embed.images",
    "estimate_noise": "assay.estimate",
    "fix_labels": "assay.recipes.shortcuts",
    "run": "assay.recipes.shortcuts",
    "evaluate": "assay.measure",
    "load_model": "assay.learn.model",
    "Model": "assay.learn.model",
    "predict": "assay.recipes.shortcuts",
    "NoisyLabelClassifier": "assay.learn.estimator",
    "AssayError": "assay._errors",
}
"""Public name -> the module that holds it."""

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'assay' has no name {name!r}; it has {', '.join(_HOME)}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
