"""Whole ways from a Dataset to a Model."""

from assay.recipes.options import RunOptions
from assay.recipes.run import RunResult, run

__all__ = ["RunOptions", "RunResult", "run"]
