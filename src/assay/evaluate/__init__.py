"""How good, how sure, at what cost? Fits nothing."""

from assay.evaluate.cost import Cost, Stopwatch, peak_memory_bytes
from assay.evaluate.metrics import (
    ClassScores,
    Evaluation,
    Report,
    Source,
    classification_report,
    evaluate_predictions,
    format_report,
)
from assay.evaluate.paired import Paired, mcnemar
from assay.noise.intervals import wilson

__all__ = [
    "ClassScores",
    "Cost",
    "Evaluation",
    "Paired",
    "Report",
    "Source",
    "Stopwatch",
    "classification_report",
    "evaluate_predictions",
    "format_report",
    "mcnemar",
    "peak_memory_bytes",
    "wilson",
]
