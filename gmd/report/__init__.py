"""The report of a run: one HTML file that shows how it was trained, what it scores, and what each modality does."""

from gmd.report.page import write_report

__all__ = ["write_report"]
