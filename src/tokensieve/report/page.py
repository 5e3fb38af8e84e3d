"""The page: one self-contained HTML file."""

from tokensieve.report.contents import Report


def render(report: Report) -> str:
    """The page as HTML."""
    return f"<!doctype html><title>{report.name}</title>"
