"""New images to rows."""

from assay.predict.batch import Predictions, predict

__all__ = ["Predictions", "predict"]
