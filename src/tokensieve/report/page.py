"""The page: one self-contained HTML file, drawn from a report's numbers and from nothing else; and its JSON twin."""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup
from pydantic import ValidationError

from tokensieve.data.manifest import write_atomically
from tokensieve.errors import InputError
from tokensieve.report import number_format, plots
from tokensieve.report.browsers import flip_data, token_data
from tokensieve.report.drift_section import drift_section, update_section
from tokensieve.report.results_schema import LOSSES
from tokensieve.report.schema import SCHEMA_VERSION, ArmReport, Report, TargetReport
from tokensieve.report.verdict import TargetVerdict, judge
from tokensieve.selection import parse_policy
from tokensieve.types import JSON

HTML_NAME: Final = "report.html"
JSON_NAME: Final = "report.json"
_WIDE, _NARROW = 592.0, 350.0
_FULL = 1080.0
_STYLES = ("page.css", "sections.css")
_SCRIPTS = ("controls.js", "policies.js", "page.js", "flips.js", "save.js")
"""Files of the page's one style sheet and its one script, in their order."""


@dataclass(frozen=True, slots=True)
class _TargetView:
    """A target with its words and pictures."""

    anchor: str
    target: TargetReport
    verdict: TargetVerdict
    styles: dict[str, plots.ArmStyle]
    scatter: plots.Pair | None
    accuracy: plots.Pair
    histograms: tuple[tuple[ArmReport, Markup], ...]
    curves: plots.Pair | None


def write_report(report: Report, folder: str | Path) -> Path:
    """Write the page and its JSON twin into a folder, and return the page's path.

    Raises:
        EnvironmentProblem: the disk is full or refuses.
    """
    path = Path(folder)
    write_atomically(path / JSON_NAME, report.model_dump_json().encode() + b"\n")
    write_atomically(path / HTML_NAME, render(report).encode())
    return path / HTML_NAME


def read_report(folder: str | Path) -> Report:
    """The report of a folder, from its JSON.

    Raises:
        InputError: there is none, it is damaged, or it has another schema version.
    """
    path = Path(folder) / JSON_NAME
    again = "write it again: tokensieve report RUN_FOLDER"
    if not path.is_file():
        raise InputError(f"no {JSON_NAME} in this folder", where=str(folder), fix=again)
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"the report is damaged: {error}", where=str(path), fix=again) from None
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if version != SCHEMA_VERSION:
        raise InputError(
            f"schema version {version!r}, this tokensieve reads {SCHEMA_VERSION}", where=str(path), fix=again
        )
    try:
        return Report.model_validate(raw)
    except ValidationError as error:
        raise InputError(f"the report does not fit its schema: {error}", where=str(path), fix=again) from None


def render(report: Report) -> str:
    """The page as HTML: no request leaves it, every text in it is escaped, its one script and style are pinned."""
    style, script = ("".join(map(_asset, names)) for names in (_STYLES, _SCRIPTS))
    template = page_environment().get_template("report.html.j2")
    verdict = judge(report)
    flips = flip_data(report)
    names = short_task_names(report)
    pairs = zip(report.targets, verdict.targets, strict=True)
    return template.render(
        report=report,
        verdict=verdict,
        names=names,
        views=[_view(f"target-{index}", target, told, names) for index, (target, told) in enumerate(pairs, 1)],
        settings=list(flatten(report.settings)),
        tokens=_as_script_data(token_data(report)),
        has_unjudged=has_unjudged,
        losses=LOSSES,
        has_tokens=any(arm.samples for target in report.targets for arm in target.arms),
        style=trusted(style),
        script=trusted(script),
        policy=content_policy(style, script),
        drift=drift_section(report),
        updates=update_section(report),
        flips=None if flips is None else _as_script_data(flips),
    )


def _asset(name: str) -> str:
    """Text of a file of the page."""
    return files("tokensieve.report").joinpath(name).read_text(encoding="utf-8")


def page_environment() -> Environment:
    """Jinja's environment for pages: every text is escaped, a name that is not given is an error."""
    environment = Environment(
        loader=FunctionLoader(_asset),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.update(figures=number_format, plots=plots)
    return environment


def short_task_names(report: Report) -> dict[str, str]:
    """Task names as short as a plot wants them: without a first part that all share, with blanks for underscores."""
    tasks = {task for target in report.targets for task in (target.task, *target.others)}
    first = {task.partition("_")[0] for task in tasks}
    cut = len(first) == 1 and len(tasks) > 1 and all("_" in task for task in tasks)
    short = {task: task.partition("_")[2] if cut else task for task in tasks}
    return {task: name.replace(":response_nll", " (nll)").replace("_", " ") for task, name in short.items()}


def has_unjudged(target: TargetReport, task: str) -> bool:
    """True if an answer on a task was not judged, the base model's or an arm's."""
    results = [target.base_result(task), *(arm.result(task) for arm in target.arms)]
    return any(result is not None and result.outcomes.not_judged for result in results)


def flatten(settings: dict[str, JSON], prefix: str = "") -> Sequence[tuple[str, str]]:
    """Nested settings as dotted keys and JSON values, in their order; an empty list or mapping is a value."""
    rows: list[tuple[str, str]] = []
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            rows.extend(flatten(value, f"{prefix}{key}."))
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            for index, item in enumerate(value):
                rows.extend(flatten({f"{key}[{index}]": item}, prefix))
        else:
            rows.append((prefix + key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
    return rows


def _view(anchor: str, target: TargetReport, verdict: TargetVerdict, names: dict[str, str]) -> _TargetView:
    styles = plots.arm_styles(target.arms)
    profiled = [(arm, arm.profile) for arm in target.arms if arm.profile and arm.profile.scored_tokens]
    decades, top = plots.histogram_scale([profile for _, profile in profiled])
    wide, narrow = (plots.target_picture(target, styles, width) for width in (_WIDE, _NARROW))
    wide_curves, narrow_curves = (plots.curves(target.arms, styles, width) for width in (_WIDE, _NARROW))
    draw_wide = plots.accuracy_grid if plots.fits_grid(target) else plots.accuracy_lanes
    return _TargetView(
        anchor=anchor,
        target=target,
        verdict=verdict,
        styles=styles,
        scatter=plots.Pair(wide, narrow) if wide and narrow else None,
        accuracy=plots.Pair(
            draw_wide(target, styles, names, _FULL), plots.accuracy_lanes(target, styles, names, _NARROW)
        ),
        histograms=tuple(
            (arm, plots.histogram(arm.name, p, decades, top, show_threshold=_by_threshold(arm))) for arm, p in profiled
        ),
        curves=plots.Pair(wide_curves, narrow_curves) if wide_curves and narrow_curves else None,
    )


def _by_threshold(arm: ArmReport) -> bool:
    """True if the threshold itself decides; controls only match its number of tokens."""
    return not parse_policy(arm.policy).traits.control


def _as_script_data(value: JSON) -> Markup:
    """JSON that may stand in a script element: nothing in it can end the element or open a comment."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return trusted(text)


def content_policy(style: str, script: str = "") -> str:
    """A policy under which the browser runs a page's script and style and loads nothing at all."""
    pins = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script))
    style_pin, script_pin = pins
    return (
        f"default-src 'none'; style-src 'sha256-{style_pin}'; script-src 'sha256-{script_pin}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def trusted(text: str) -> Markup:
    """Text that is ours, or is made safe already, and goes into the page as it is."""
    return Markup(text)  # noqa: S704 -- the package's own files, and JSON with its markup characters escaped
