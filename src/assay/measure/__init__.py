"""How good, how sure, at what cost? Fits nothing."""

from assay.measure.compare import Paired, mcnemar
from assay.measure.cost import Cost, Stopwatch, peak_memory_bytes
from assay.measure.evaluate import Evaluation, evaluate
from assay.measure.intervals import wilson
from assay.measure.scores import ClassScores, Report, classification_report, format_report

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
