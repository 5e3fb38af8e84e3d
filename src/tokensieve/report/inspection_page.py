"""The page of an inspection: one self-contained HTML file in the report's style, and its JSON twin."""

from importlib.resources import files
from pathlib import Path
from typing import Final

from tokensieve.data.manifest import write_atomically
from tokensieve.inspection import Inspection, MaskAudit
from tokensieve.report import plots
from tokensieve.report.page import content_policy, page_environment, trusted

INSPECTION_HTML: Final = "inspect.html"
INSPECTION_JSON: Final = "inspect.json"


def render_inspection(found: Inspection) -> str:
    """The page as HTML: no request leaves it, it runs no script, and every text in it is escaped."""
    assets = files("tokensieve.report")
    style = assets.joinpath("page.css").read_text(encoding="utf-8")
    template = page_environment().from_string(assets.joinpath("inspection.html.j2").read_text(encoding="utf-8"))
    scored = [source for source in found.sources if source.profile.scored_tokens]
    decades, top = plots.histogram_scale([source.profile for source in scored])
    return template.render(
        found=found,
        histograms=[(one.source, plots.histogram(one.source, one.profile, decades, top)) for one in scored],
        style=trusted(style),
        policy=content_policy(style),
    )


def write_inspection(found: Inspection | MaskAudit, folder: str | Path) -> list[Path]:
    """Write an inspection into a folder: ``inspect.json``, and of a profile the page ``inspect.html``.

    Returns:
        The files.

    Raises:
        EnvironmentProblem: the disk is full or refuses.
    """
    written = [Path(folder) / INSPECTION_JSON]
    write_atomically(written[0], found.model_dump_json(indent=2).encode() + b"\n")
    if isinstance(found, Inspection):
        written.append(Path(folder) / INSPECTION_HTML)
        write_atomically(written[1], render_inspection(found).encode())
    return written
