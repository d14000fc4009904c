"""Whole ways from a Dataset to a Model."""

from assay.recipes.options import RunOptions
from assay.recipes.result import RunResult
from assay.recipes.run import ensure_run, run

__all__ = ["RunOptions", "RunResult", "ensure_run", "run"]
