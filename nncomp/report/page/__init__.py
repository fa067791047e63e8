"""The report to look at: pages that need nothing beside themselves, made from what ``report.json`` holds.

Charts are inline SVG, made here; the page's script only sorts, filters and unfolds, so that a page says the same
without it, on paper, and to a screen reader. All text goes through one door that escapes it (:mod:`.rendering`).
"""

from nncomp.report.page.pages import comparison_page, diff_page, report_fragment, report_page

__all__ = ["comparison_page", "diff_page", "report_fragment", "report_page"]
