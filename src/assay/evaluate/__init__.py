"""How good, how sure, at what cost? Fits nothing."""

from assay.evaluate.compare import Paired, mcnemar
from assay.evaluate.cost import Cost, Stopwatch, peak_memory_bytes
from assay.evaluate.evaluate import Evaluation, evaluate
from assay.evaluate.intervals import wilson
from assay.evaluate.scores import ClassScores, Report, classification_report, format_report

__all__ = [
    "ClassScores",
    "Cost",
    "Evaluation",
    "Paired",
    "Report",
    "Stopwatch",
    "classification_report",
    "evaluate",
    "format_report",
    "mcnemar",
    "peak_memory_bytes",
    "wilson",
]
