"""Reports of experiments: a self-contained HTML page for everybody, and a PDF figure for papers. Both are drawn from a Result alone."""

from labctl.experiments.report.html import html
from labctl.experiments.report.pdf import pdf

__all__ = ["html", "pdf"]
