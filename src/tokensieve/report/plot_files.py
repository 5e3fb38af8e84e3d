"""A report's pictures as files of their own: SVG that follows light and dark, and PNG where there is a Chromium."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Final

from tokensieve.data.manifest import write_atomically
from tokensieve.errors import EnvironmentProblem, first_line
from tokensieve.report import plots
from tokensieve.report.drift_section import drift_section, update_section
from tokensieve.report.page import short_task_names
from tokensieve.report.schema import Report

CHROMIUMS: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
"""Programs that draw an SVG file into a PNG file."""
_WIDTH: Final = 560.0
_SCALE: Final = 2
_TIMEOUT_S: Final = 120


def write_plots(report: Report, folder: Path) -> list[Path]:
    """Write the report's pictures into a folder as SVG files, and return their paths.

    Raises:
        EnvironmentProblem: the disk is full or refuses.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, picture in pictures(report):
        path = folder / f"{name}.svg"
        write_atomically(path, standalone(picture).encode())
        written.append(path)
    return written


def pictures(report: Report) -> Iterator[tuple[str, str]]:
    """Names and SVG elements of the report's pictures."""
    names = short_task_names(report)
    for target in report.targets:
        styles = plots.arm_styles(target.arms)
        drawn = {
            "": plots.target_picture(target, styles, _WIDTH),
            "-skills": plots.accuracy_lanes(target, styles, names, _WIDTH) if target.base else None,
            "-loss": plots.curves(target.arms, styles, _WIDTH),
        }
        for kind, picture in drawn.items():
            if picture is not None:
                yield f"{_file_name(target.task)}{kind}", str(picture)
    if (drift := drift_section(report)) is not None:
        yield "drift", str(drift.picture.wide)
    for place, view in enumerate(update_section(report), start=1):
        if view.picture is not None:
            yield f"update-{place}", str(view.picture.wide)


def standalone(picture: str) -> str:
    """An SVG element as a file: with the page's style sheet inside, so that it follows light and dark."""
    assets = files("tokensieve.report")
    css = "".join(assets.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "sections.css"))
    css = css.replace("&", "&amp;").replace("<", "&lt;")
    head, rest = picture.split(">", 1)
    head = head.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    return f"{head}><style>{css}</style>{rest}\n"


def find_chromium() -> str | None:
    """The path of a Chromium on this machine; None where there is none."""
    return next((found for name in CHROMIUMS if (found := shutil.which(name))), None)


def write_png(svg: Path, chromium: str) -> Path:
    """Draw an SVG file of ours into a PNG file beside it, in light colours and twice its size.

    Raises:
        EnvironmentProblem: the program fails or writes nothing.
    """
    found = re.search(r'<svg[^>]* width="([\d.]+)" height="([\d.]+)"', svg.read_text(encoding="utf-8"))
    width, height = (round(float(size)) for size in found.groups()) if found else (800, 600)
    png = svg.with_suffix(".png")
    call = [
        chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
        f"--force-device-scale-factor={_SCALE}", f"--window-size={width},{height}", f"--screenshot={png}",
        svg.resolve().as_uri(),
    ]  # fmt: skip
    try:
        done = subprocess.run(call, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvironmentProblem(f"{chromium} fails: {first_line(error)}", where=str(svg)) from error
    if done.returncode or not png.is_file():
        why = done.stderr.strip().splitlines()[-1:] or ["it wrote nothing"]
        raise EnvironmentProblem(f"{chromium} fails: {why[0]}", where=str(svg))
    return png


def _file_name(task: str) -> str:
    """A task's name as the name of a file."""
    return re.sub(r"[^\w.-]+", "-", task).strip("-.") or "target"
