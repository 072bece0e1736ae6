"""What people look at: figures, tables of text, and one self-contained HTML page.

The figures, which import matplotlib, are in `latticesearch.report.figures`.
"""

from latticesearch.report.details import Details, computational_details
from latticesearch.report.html import describe_hull, write_report
from latticesearch.report.tables import hull_table, summary_line, summary_text

__all__ = [
    "Details",
    "computational_details",
    "describe_hull",
    "hull_table",
    "summary_line",
    "summary_text",
    "write_report",
]
