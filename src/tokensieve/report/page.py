"""The page: one self-contained HTML file, drawn from a report's numbers and from nothing else."""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from tokensieve.analysis import PERPLEXITY_STEPS
from tokensieve.report import number_format, plots
from tokensieve.report.drift_section import drift_section
from tokensieve.report.flips_section import flip_data
from tokensieve.report.frontier import LOSSES
from tokensieve.report.schema import ArmReport, Report, SampleRow, TargetReport
from tokensieve.report.update_section import update_section
from tokensieve.report.verdict import TargetVerdict, judge
from tokensieve.selection import parse_policy
from tokensieve.types import JSON

_WIDE, _NARROW = 592.0, 350.0
_FULL = 1080.0
TOKENS_ON_PAGE = 70_000
"""Tokens of all arms' rows in the token browser, each at about 30 bytes; the first row of an arm is always there."""
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
    return {task: (task.partition("_")[2] if cut else task).replace("_", " ") for task in tasks}


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


def token_data(report: Report) -> JSON:
    """Data of the token browser: each distinct text once, and for every arm the trained tokens as bits.

    Arms with many long rows show the first of them only, so that the page stays small; report.json holds all.
    """
    listed = [arm for target in report.targets for arm in target.arms if arm.samples]
    tokens_left = {id(arm): TOKENS_ON_PAGE // len(listed) for arm in listed}
    texts: list[JSON] = []
    places: dict[tuple[object, ...], int] = {}
    targets: list[JSON] = []
    for target in report.targets:
        arms: list[JSON] = []
        for arm in target.arms:
            rows: list[JSON] = []
            for row in arm.samples:
                tokens_left[id(arm)] -= len(row.pieces)
                if rows and tokens_left[id(arm)] < 0:
                    break
                key = (row.pieces, row.nll, row.in_response, row.protected, row.tuned_nll)
                if key not in places:
                    places[key] = len(texts)
                    nll: list[JSON] = [None if value is None else round(value, 4) for value in row.nll]
                    bits = {"response": _bits(row.in_response), "protected": _bits(row.protected)}
                    texts.append({"pieces": list(row.pieces), "nll": nll, **bits, **_measures(row)})
                shown: dict[str, JSON] = {"id": row.id, "text": places[key], "train": _bits(row.train)}
                if row.weight:
                    shown["weight"] = list(row.weight)
                rows.append({**shown, "notShown": row.not_shown})
            if rows:
                arms.append({"name": arm.name, "rows": rows})
        if arms:
            targets.append({"name": target.title or target.task, "arms": arms})
    return {"targets": targets, "texts": texts, "steps": list(PERPLEXITY_STEPS)}


def _measures(row: SampleRow) -> dict[str, JSON]:
    """Measures of a row beside the nll, as far as they are known: one value a response token, in their order."""
    lists = {"entropy": row.entropy, "rank": row.rank, "tuned": row.tuned_nll, "preferred": row.preferred}
    found: dict[str, JSON] = {
        name: [value for value, inside in zip(values, row.in_response, strict=True) if inside]
        for name, values in lists.items()
        if values
    }
    return {**found, "tunedName": row.tuned_name} if row.tuned_nll else found


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


def _bits(flags: Sequence[bool]) -> str:
    return "".join("1" if flag else "0" for flag in flags)


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
