"""What a run found, as one HTML page."""

from assay.report.write import WrittenReport, write_report

__all__ = ["WrittenReport", "write_report"]
