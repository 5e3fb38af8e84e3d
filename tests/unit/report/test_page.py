"""The page as text: self-contained, escaped and whole for every odd report; its files, and what is said of bad ones."""

import base64
import hashlib
import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.synthetic_report import HOSTILE, synthetic_report

from tokensieve.data.manifest import ModelIdentity
from tokensieve.errors import InputError
from tokensieve.report import (
    HTML_NAME,
    JSON_NAME,
    ArmReport,
    Estimate,
    Report,
    SampleRow,
    StageTime,
    TargetReport,
    read_report,
    write_report,
)
from tokensieve.report.browsers import token_data
from tokensieve.report.page import flatten, render, short_task_names
from tokensieve.report.schema import Checkout, RunRecord


@pytest.fixture(scope="module")
def report() -> Report:
    return synthetic_report()


@pytest.fixture(scope="module")
def page(report: Report) -> str:
    return render(report)


class _Reader(HTMLParser):
    """Collects elements and checks that they close in order."""

    VOID = frozenset({"meta", "link", "br", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag


def read(page: str) -> _Reader:
    reader = _Reader()
    reader.feed(page)
    assert reader.open == []
    return reader


def test_elements_close_and_ids_are_unique(page: str) -> None:
    ids = [attributes["id"] for _, attributes in read(page).elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_nothing_is_loaded_from_anywhere(page: str) -> None:
    for tag, attributes in read(page).elements:
        assert tag not in {"img", "iframe", "object", "embed", "base"}
        assert "src" not in attributes
        if tag == "link":
            assert attributes == {"rel": "icon", "href": "data:,"}
        if "href" in attributes:
            assert (attributes["href"] or "").startswith(("#", "data:", "report.json"))
        assert not any(name.startswith("on") or name == "style" for name in attributes)
    assert "@import" not in page
    assert "url(" not in page


def test_the_policy_pins_the_one_style_and_the_one_script(page: str) -> None:
    style = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    script = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert (len(style), len(script)) == (1, 1)
    for text in (*style, *script):
        pin = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{pin}'" in html.unescape(page)
    assert "default-src 'none'" in html.unescape(page)
    assert "unsafe-inline" not in page


def test_hostile_text_stays_text(report: Report) -> None:
    first = report.targets[0]
    hostile = report.model_copy(
        update={
            "title": HOSTILE,
            "notes": (HOSTILE,),
            "commands": (HOSTILE,),
            "settings": {HOSTILE: HOSTILE},
            "targets": (first.model_copy(update={"title": HOSTILE}), *report.targets[1:]),
        }
    )
    page = render(hostile)
    assert HOSTILE not in page
    assert "<img" not in page
    assert page.count("<script") == 3
    read(page)


def test_the_token_data_survives_its_escaping(report: Report, page: str) -> None:
    found = re.search(r'<script type="application/json" id="token-data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    assert "<" not in found[1]
    assert json.loads(found[1]) == token_data(report)
    assert HOSTILE in json.dumps(json.loads(found[1]), ensure_ascii=False)


def test_arms_on_the_same_rows_share_their_texts(report: Report) -> None:
    data = token_data(report)
    assert isinstance(data, dict)
    texts = data["texts"]
    assert isinstance(texts, list)
    # Four arms on the same 12 rows, and 12 of Self-Output, for either target.
    assert len(texts) == 2 * 2 * 12


def test_the_same_report_gives_the_same_page(report: Report, page: str) -> None:
    assert render(report) == page


def test_every_arm_and_task_is_on_the_page(report: Report, page: str) -> None:
    for target in report.targets:
        for arm in target.arms:
            assert f"<b>{arm.name}</b>" in page
    for name in short_task_names(report).values():
        assert name in page
    assert "One seed" in page
    assert "24 no correct sample" in page


def test_a_base_of_zero_shows_points_and_names_what_bwt_leaves_out() -> None:
    report = synthetic_report(base_of_zero=True)
    page = html.unescape(render(report))
    assert report.targets[1].dropped_from_transfer == ("pocket_arithmetic",)
    assert "Gain on the target, points" in page
    assert "The base solves none of the target's problems, so the gain is in percentage points" in page
    assert "pocket_arithmetic is left out of BWT" in page
    read(page)


def test_several_seeds_are_one_curve_each_arm_and_no_caveat() -> None:
    page = render(synthetic_report(seeds=(0, 1)))
    assert "One seed" not in page
    assert page.count('class="curve') == render(synthetic_report()).count('class="curve')


def test_a_report_with_hardly_anything_in_it_is_a_page_too() -> None:
    untrained = ArmReport(name="plain", policy="plain", rows_in=5, rows_out=0, not_trained="no rows were left")
    bare = ArmReport(name="STM", policy="stm:2.5", rows_in=1, rows_out=1)
    target = TargetReport(task="t", others=("o",), base=(), arms=(untrained, bare))
    page = render(Report(name="n", model=ModelIdentity(name="m"), targets=(target,)))
    read(page)
    assert "not trained: no rows were left" in page
    assert 'id="browser"' not in page
    read(render(Report(name="n", model=ModelIdentity(name="m"), targets=())))


def test_rows_of_unequal_lists_are_refused() -> None:
    with pytest.raises(ValueError, match="different lengths"):
        SampleRow(id="r", pieces=("a",), nll=(0.0, 1.0), in_response=(True,), train=(True,), protected=(False,))


def test_settings_are_flattened_in_order() -> None:
    assert list(flatten({"b": {"x": 1, "y": None}, "a": [1, 2], "c": {}, "d": [{"e": "text"}]})) == [
        ("b.x", "1"),
        ("b.y", "null"),
        ("a", "[1, 2]"),
        ("c", "{}"),
        ("d[0].e", "text"),
    ]


@pytest.mark.parametrize(
    ("tasks", "expected"),
    [
        (("pocket_a", "pocket_b_c"), {"pocket_a": "a", "pocket_b_c": "b c"}),
        (("gsm8k", "arc_challenge"), {"gsm8k": "gsm8k", "arc_challenge": "arc challenge"}),
        (("arc_challenge",), {"arc_challenge": "arc challenge"}),
        (("p_sql:response_nll", "p_sql"), {"p_sql:response_nll": "sql (nll)", "p_sql": "sql"}),
    ],
)
def test_short_task_names(tasks: tuple[str, ...], expected: dict[str, str]) -> None:
    target = TargetReport(task=tasks[0], others=tasks[1:], base=(), arms=())
    assert short_task_names(Report(name="n", model=ModelIdentity(name="m"), targets=(target,))) == expected


def test_rows_that_were_noted_and_white_space_are_told_below_the_shares(report: Report, page: str) -> None:
    target = report.targets[0]
    told = {"noted": {"response normalised": 1234}, "white_space": {"line_ends": 0.256, "tabs": 0.0}}
    arm = target.arms[1].model_copy(update=told)
    changed = target.model_copy(update={"arms": (target.arms[0], arm, *target.arms[2:])})
    text = html.unescape(render(report.model_copy(update={"targets": (changed, *report.targets[1:])})))
    assert re.search(rf"Rows kept and noted: {re.escape(arm.name)} – 1.234 response normalised\.", text)
    assert re.search(rf"would change: {re.escape(arm.name)} – 25\.6.% line ends, 0\.0.% tabs\.", text)
    assert "Rows kept and noted" not in page
    assert "white space that normalising" not in page


def test_the_time_is_summed_by_kind_of_stage(report: Report) -> None:
    times = (("train plain", 30.0), ("evaluate base", 45.0), ("train stm", 15.0), ("score rows", 10.0))
    timed = report.model_copy(update={"timing": tuple(StageTime(stage=name, wall_s=s) for name, s in times)})
    assert timed.time_by_verb() == (
        ("train", 2, 45.0, 0.45),
        ("evaluate", 1, 45.0, 0.45),
        ("score", 1, 10.0, 0.1),
    )
    text = re.sub(r"<[^>]+>", "|", render(timed))
    assert "train||2||45.0\u202fs||45" in text.replace("&#8239;", "\u202f")
    assert report.model_copy(update={"timing": ()}).time_by_verb() == ()


def test_the_cost_of_every_arm_is_told(report: Report, page: str) -> None:
    table = page.split("What each arm cost")[1].split("</table>")[0]
    for arm in report.targets[0].arms:
        assert f">{arm.name}<" in table
    assert table.count("21.0\u202fs") == table.count("30.0\u202fs") == 10


def test_the_json_twin_holds_the_whole_report(tmp_path: Path) -> None:
    report = synthetic_report()
    page = write_report(report, tmp_path)
    assert page == tmp_path / HTML_NAME
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert read_report(tmp_path) == report


def test_a_missing_damaged_or_foreign_report_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no report\.json"):
        read_report(tmp_path)
    path = tmp_path / JSON_NAME
    path.write_text('{"schema_version": 2,', encoding="utf-8")
    with pytest.raises(InputError, match="damaged"):
        read_report(tmp_path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="damaged"):
        read_report(tmp_path)
    path.write_text(json.dumps({"schema_version": 99}), encoding="utf-8")
    with pytest.raises(InputError, match="schema version 99"):
        read_report(tmp_path)
    path.write_text(json.dumps({"schema_version": 2, "surprise": 1}), encoding="utf-8")
    with pytest.raises(InputError, match="surprise"):
        read_report(tmp_path)


def test_estimates_become_json_with_none_for_nan() -> None:
    nan = float("nan")
    assert Estimate.of(nan, nan, nan) == Estimate()
    assert Estimate.of(1.0, 0.0, 2.0) == Estimate(value=1.0, low=0.0, high=2.0)
    with pytest.raises(ValueError, match="both ends"):
        Estimate(value=1.0, low=0.0)
    with pytest.raises(ValueError, match="out of order"):
        Estimate(value=1.0, low=2.0, high=0.0)
    with pytest.raises(ValueError, match="finite"):
        Estimate(value=nan)


RECORD = RunRecord(
    recipe="mine.yaml",
    settings_digest="5f" * 32,
    inputs={"model": "0a" * 32},
    checkout=Checkout(commit="0123456789abcdef" * 2 + "01234567", changed=True),
    versions={"python": "3.11.9"},
    workers=2,
    threads=1,
    started_at="2026-01-05T10:20:30+00:00",
)


@pytest.mark.parametrize("run", [RECORD, RECORD.model_copy(update={"checkout": None}), None])
def test_recipe_commit_and_workers_are_on_the_page(run: RunRecord | None) -> None:
    report = synthetic_report().model_copy(update={"run": run})
    assert Report.model_validate_json(report.model_dump_json()) == report
    page = render(report)
    assert ("mine.yaml" in page) == (run is not None)
    assert ("<code>0123456789ab</code> with changes" in page) == (run is not None and run.checkout is not None)
