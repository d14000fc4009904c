"""Whole ways from a Dataset to a Model."""

from assay.pipeline.options import RunOptions
from assay.pipeline.result import RunResult
from assay.pipeline.run import ensure_run, run

__all__ = ["RunOptions", "RunResult", "ensure_run", "run"]
