"""What was found, to look at: one page for all of it, and pictures as SVG files."""

from assay.report.confusion import draw_confusion
from assay.report.history import draw_history
from assay.report.layers import draw_layers
from assay.report.pictures import write_pictures
from assay.report.sample_grid import draw_samples
from assay.report.write import WrittenReport, write_report

__all__ = [
    "WrittenReport",
    "draw_confusion",
    "draw_history",
    "draw_layers",
    "draw_samples",
    "write_pictures",
    "write_report",
]
