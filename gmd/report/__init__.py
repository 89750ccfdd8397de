"""The report of a run: one HTML file that shows what a training was, what came of it, and what each modality did."""

from gmd.report.page import write_report

__all__ = ["write_report"]
