"""What people look at: figures, tables of text, and one self-contained HTML page."""

from latticesearch.report.figures import draw_figures
from latticesearch.report.html import report_html, write_report
from latticesearch.report.tables import hull_table, summary_line, summary_text

__all__ = [
    "draw_figures",
    "hull_table",
    "report_html",
    "summary_line",
    "summary_text",
    "write_report",
]
