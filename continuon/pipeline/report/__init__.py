"""The report: one self-contained page per run, made from receipts and figures alone."""

from continuon.pipeline.report.page import build_report

__all__ = ["build_report"]
