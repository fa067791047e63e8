"""Pages from plain data: of one report, of several side by side, and of what differs between two models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nncomp.report.comparing import Result
from nncomp.report.page.comparison import comparison_content
from nncomp.report.page.content import report_content
from nncomp.report.page.difference import difference_content
from nncomp.report.page.facts import before_after, figures
from nncomp.report.page.rendering import rendered
from nncomp.report.page.rows import rows_of
from nncomp.report.page.verdict import costly_layers


def report_page(report: Mapping[str, Any]) -> str:
    """Return the page of a report, one file that loads nothing.

    Args:
        report: As ``report.json`` has it, or :meth:`nncomp.report.Report.as_dict` gives it.
    """
    return rendered("report.html.j2", report_content(report))


def report_fragment(report: Mapping[str, Any]) -> str:
    """Return the gist of a report as one element, for a page that is somebody else's, such as a notebook."""
    content = {
        "report": report,
        "title": report["model"]["name"] or "model",
        "facts": before_after(report),
        "figures": figures(report),
        "costly": costly_layers(rows_of(report), report["target_report"]),
    }
    return rendered("fragment.html.j2", content)


def comparison_page(results: Sequence[Result], reports: Sequence[Mapping[str, Any]]) -> str:
    """Return the page of several results.

    Args:
        results: From :func:`nncomp.report.comparing.result_of`.
        reports: What they are of, in the same order.
    """
    return rendered("comparison.html.j2", comparison_content(results, reports))


def diff_page(before: str, after: str, found: Mapping[str, Any]) -> str:
    """Return the page of what differs between two models.

    Args:
        before, after: What to call them.
        found: :meth:`nncomp.diff.GraphDiff.as_dict`, made plain.
    """
    return rendered("diff.html.j2", difference_content(before, after, found))
