"""How good, how sure, at what cost? Fits nothing."""

from assay.evaluate.cost import Cost, Stopwatch, peak_memory_bytes
from assay.evaluate.metrics import (
    ClassScores,
    Evaluation,
    Paired,
    Report,
    Source,
    balanced_accuracy,
    balanced_figures,
    classification_report,
    evaluate_predictions,
    format_report,
    mcnemar,
    share_right,
)
from assay.noise.intervals import wilson

__all__ = [
    "ClassScores",
    "Cost",
    "Evaluation",
    "Paired",
    "Report",
    "Source",
    "Stopwatch",
    "balanced_accuracy",
    "balanced_figures",
    "classification_report",
    "evaluate_predictions",
    "format_report",
    "mcnemar",
    "peak_memory_bytes",
    "share_right",
    "wilson",
]
