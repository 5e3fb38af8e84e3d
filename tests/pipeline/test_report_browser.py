"""The report in a real Chromium: it loads nothing, its browser of tokens works by mouse and keyboard, and it fits.

The tests share one loaded page and each sets what it needs: to start a page is what takes time here.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import pytest
from tests.swept_report import likelihood_report, swept_report
from tests.synthetic_report import HOSTILE, synthetic_report

from tokensieve.config import SelectSettings
from tokensieve.report import ArmReport, Report, SampleRow, write_report
from tokensieve.selection import fit, select_tokens
from tokensieve.types import Scored, Scores, Tokens, bools, ints

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")

pytestmark = pytest.mark.browser

Scheme: TypeAlias = Literal["light", "dark"]
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
          "--disable-component-update", "--disable-sync")  # fmt: skip

# Texts of a picture that stick out of it, and names in a scatter that cover each other.
_MISPLACED = """() => {
  const box = node => node.getBoundingClientRect();
  const shared = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3;
  const pictures = [...document.querySelectorAll('svg')].filter(svg => box(svg).width);
  return pictures.flatMap(svg => {
    const out = [...svg.querySelectorAll('text')].filter(
      text => box(text).left < box(svg).left - 2 || box(text).right > box(svg).right + 2);
    const scatter = svg.getAttribute('aria-label').includes('backward transfer');
    const names = scatter ? [...svg.querySelectorAll('.name')] : [];
    const covered = names.filter((one, i) => names.slice(i + 1).some(other => shared(box(one), box(other))));
    return [...out, ...covered].map(node => node.textContent);
  });
}"""

# Tables that are wider than the box they stand in, which a reader would have to scroll sideways.
_WIDE_TABLES = """() => [...document.querySelectorAll('table')].filter(table => {
  const box = table.closest('.scroll') ?? table.parentElement;
  return table.getBoundingClientRect().width > box.clientWidth + 1 || box.scrollWidth > box.clientWidth + 1;
}).map(table => table.innerText.slice(0, 60))"""

# Colour of a text and of the ground that it stands on.
_COLOURS = """() => [...document.querySelectorAll('body, .fine, .numbers, #row i, .scale span')].map(node => {
  let ground = node;
  while (getComputedStyle(ground).backgroundColor === 'rgba(0, 0, 0, 0)') ground = ground.parentElement;
  return [getComputedStyle(node).color, getComputedStyle(ground).backgroundColor];
})"""


@dataclass
class Opened:
    """The page, and what it asked for and complained of since it was opened."""

    page: "Page"
    url: str
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def chromium() -> "Iterator[Browser]":
    path = next((found for name in _NAMES if (found := shutil.which(name))), None)
    if path is None:
        reason = "no Chromium on this system; the browser tests need one (Debian: apt install chromium)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=list(_QUIET), timeout=120_000)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def opened(chromium: "Browser", tmp_path_factory: pytest.TempPathFactory) -> Opened:
    url = write_report(synthetic_report(), tmp_path_factory.mktemp("report")).as_uri()
    page = chromium.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
    page.set_default_timeout(120_000)
    opened = Opened(page, url)
    page.on("request", lambda request: opened.requests.append(request.url))
    page.on("console", lambda message: opened.complaints.append(message.text))
    page.on("pageerror", lambda error: opened.complaints.append(str(error)))
    page.on("dialog", lambda dialog: opened.complaints.append(dialog.message))
    page.goto(url)
    page.wait_for_selector("#browser:not([hidden])")
    return opened


@pytest.fixture
def page(opened: Opened) -> "Page":
    """The page at desktop width, with the first target, its STM arm and its first row."""
    opened.page.set_viewport_size({"width": 1280, "height": 900})
    choose(opened.page, synthetic_report().targets[0].title)
    choose(opened.page, "STM 2.5")
    opened.page.locator("#pick-row").select_option(index=0)
    opened.page.mouse.move(1, 1)
    return opened.page


def choose(page: "Page", name: str) -> None:
    page.locator("#browser").get_by_role("radio", name=name, exact=True).check(force=True)


def shown_row(page: "Page", arm: ArmReport) -> SampleRow:
    shown = page.locator("#pick-row option:checked").inner_text()
    return next(row for row in arm.samples if row.id == shown)


def test_it_opens_quietly_and_loads_nothing(opened: Opened) -> None:
    assert opened.complaints == []
    assert [url for url in opened.requests if url != opened.url and not url.startswith("data:")] == []
    assert Path(opened.url.removeprefix("file://")).with_name("report.json").is_file()


@pytest.mark.parametrize("width", [1280, 1141, 820, 390])
def test_it_fits_and_nothing_lies_over_anything(page: "Page", width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(_MISPLACED) == []
    assert page.locator("table").count() > 10
    assert page.evaluate(_WIDE_TABLES) == []


@pytest.mark.parametrize("report", [swept_report, likelihood_report])
def test_a_swept_study_fits_as_well(chromium: "Browser", tmp_path: Path, report: Callable[[], Report]) -> None:
    page = chromium.new_page(viewport={"width": 1280, "height": 900}, color_scheme="dark")
    page.goto(write_report(report(), tmp_path).as_uri())
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate(_MISPLACED) == []
        assert page.evaluate(_WIDE_TABLES) == []
    page.close()


def test_hovering_over_a_token_tells_perplexity_and_probability(page: "Page") -> None:
    tip = page.locator("#tip")
    assert tip.is_hidden()
    page.locator("#row i.out").first.hover()
    assert "perplexity" in tip.inner_text()
    assert "probability" in tip.inner_text()
    assert "not trained" in tip.inner_text()
    page.locator("#row i.prompt").first.hover()
    assert "never trained" in tip.inner_text()
    page.mouse.move(2, 2)
    assert tip.is_hidden()


def test_the_tip_stays_on_a_narrow_screen(page: "Page") -> None:
    page.set_viewport_size({"width": 390, "height": 900})
    for token in page.locator("#row i").all()[:60:12]:
        token.hover()
        box = page.locator("#tip").bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390


@pytest.mark.parametrize("index", [0, 1, 3])
def test_struck_through_is_exactly_what_is_not_trained(page: "Page", index: int) -> None:
    arm = synthetic_report().targets[0].arms[index]
    choose(page, arm.name)
    struck = page.evaluate(
        """() => [...document.querySelectorAll('#row i')].map(
             node => getComputedStyle(node).textDecorationLine.includes('line-through'))"""
    )
    row = shown_row(page, arm)
    assert struck == [inside and not train for inside, train in zip(row.in_response, row.train, strict=True)]


def out_places(page: "Page") -> list[int]:
    return [
        int(place) for place in page.evaluate("[...document.querySelectorAll('#row i.out')].map(i => i.dataset.index)")
    ]


def set_policy(page: "Page", picker: str, label: str, value: str | None = None) -> None:
    page.locator(f"#{picker}").select_option(label=label)
    if value is not None:
        page.locator({"pick-policy": "#value", "pick-other": "#other-value"}[picker]).fill(value)


POLICIES = (
    ("plain", None, "plain"),
    ("stm:PPL", "2.5", "stm:2.5"),
    ("stm:PPL", "10", "stm:10"),
    ("share:FRACTION:row", "0.3", "share:0.3:row"),
    ("share:FRACTION:row", "1", "share:1:row"),
    ("nll_budget:FRACTION:row", "0.5", "nll_budget:0.5:row"),
    ("nll_budget:FRACTION:row", "0.9", "nll_budget:0.9:row"),
)


def test_the_page_decides_as_the_policies_of_select_do(page: "Page") -> None:
    arm = synthetic_report().targets[0].arms[1]
    for index in (0, 3):
        page.locator("#pick-row").select_option(index=index)
        row = shown_row(page, arm)
        nll_T = np.array([np.nan if nll is None else nll for nll in row.nll], dtype=np.float32)
        tokens = Tokens(row.id, ints(range(len(nll_T))), bools(row.in_response), bools(row.protected))
        scored = Scored(tokens, {"base": Scores(nll_T)})
        for label, value, policy in POLICIES:
            set_policy(page, "pick-policy", label, value)
            selected = select_tokens(scored, fit(SelectSettings(policy=policy), [scored].copy))
            expected = np.flatnonzero(tokens.in_response_T & ~selected.train_T).tolist()
            assert out_places(page) == expected, (policy, row.id)
    set_policy(page, "pick-policy", "as trained")


def test_two_policies_are_compared_and_rows_are_sorted_by_the_nll_left_out(page: "Page") -> None:
    set_policy(page, "pick-other", "plain")
    struck = out_places(page)
    assert page.locator("#row i.differs").count() == len(struck) > 0
    assert f"{len(struck)} decided differently" in page.locator("#row-facts").inner_text()
    page.locator("#by-nll").check()
    shares = []
    for index in range(12):
        page.locator("#pick-row").select_option(index=index)
        held = re.search(r"which hold (\d+) % of the nll", page.locator("#row-facts").inner_text())
        shares.append(int(held[1]) if held else 0)
    assert shares == sorted(shares, reverse=True)
    page.locator("#by-nll").uncheck()
    page.locator("#white-space").check()
    assert "·" in page.locator("#row").inner_text()
    page.locator("#white-space").uncheck()
    assert "·" not in page.locator("#row").inner_text()
    set_policy(page, "pick-other", "nothing")
    assert page.locator("#row i.differs").count() == 0


def test_the_controls_go_through_targets_arms_and_rows(page: "Page") -> None:
    report = synthetic_report()
    chosen = page.locator("#pick-row option:checked")
    first = chosen.inner_text()
    page.locator("#next").click()
    second = chosen.inner_text()
    assert second != first
    choose(page, "plain")
    assert chosen.inner_text() == second, "another arm shows the same row"
    assert page.locator("#row i.out").count() == 0
    page.locator("#previous").click()
    assert chosen.inner_text() == first
    assert page.locator("#previous").is_disabled()
    choose(page, report.targets[1].title)
    page.locator("#pick-row").select_option(index=3)
    assert chosen.inner_text() == report.targets[1].arms[0].samples[3].id


def test_the_keyboard_alone_is_enough(page: "Page") -> None:
    page.locator("#next").focus()
    page.keyboard.press("Tab")
    where = "document.activeElement.dataset.index"
    start = int(page.evaluate(where))
    assert "probability" in page.locator("#tip").inner_text()
    page.keyboard.press("ArrowRight")
    assert int(page.evaluate(where)) == start + 1
    page.keyboard.press("Home")
    assert int(page.evaluate(where)) == 0
    page.keyboard.press("Escape")
    assert page.locator("#tip").is_hidden()
    label = page.locator("#row i.out").first.get_attribute("aria-label") or ""
    assert "perplexity" in label
    assert "not trained" in label
    assert page.locator('#row [tabindex="0"]').count() == 1


def test_hostile_tokens_are_shown_as_text(opened: Opened, page: "Page") -> None:
    hostile = next(row for row in synthetic_report().targets[0].arms[1].samples if HOSTILE in row.pieces)
    page.locator("#pick-row").select_option(label=hostile.id)
    assert HOSTILE in page.locator("#row").inner_text()
    assert page.locator("#row img, #row script").count() == 0
    assert opened.complaints == []


def test_tokens_are_coloured_by_what_is_chosen_and_the_bases_choice_is_told(page: "Page") -> None:
    arm = synthetic_report().targets[0].arms[1]
    row = shown_row(page, arm)
    levels = """() => [...document.querySelectorAll('#row i')].map(
        node => Number(([...node.classList].find(name => /^p[0-9]$/.test(name)) ?? 'p0').slice(1)))"""
    limits: dict[str, list[float]] = {"rank": [0, 1, 3, 10, 100, 1000, 10000], "entropy": [0.1, 0.5, 1, 1.5, 2, 3, 4]}
    measures: dict[str, Sequence[float | None]] = {"rank": row.rank, "entropy": row.entropy}
    for name, values in measures.items():
        page.locator("#pick-colour").select_option(label=name)
        assert page.evaluate(levels) == [
            0 if value is None else sum(value > limit + 1e-9 for limit in limits[name]) for value in values
        ]
        assert name in page.locator("#scale").inner_text()
    page.locator("#pick-colour").select_option(label="likelier by tuned")
    expected = [
        nll is not None and after is not None and nll - after > 1e-9
        for nll, after in zip(row.nll, row.tuned_nll, strict=True)
    ]
    assert [bool(level) for level in page.evaluate(levels)] == expected
    page.locator("#pick-colour").select_option(label="weight")
    assert [level == 7 for level in page.evaluate(levels)] == [
        inside and not train for inside, train in zip(row.in_response, row.train, strict=True)
    ]
    page.locator("#pick-colour").select_option(label="perplexity")
    page.locator("#row i.out").first.hover()
    told = page.locator("#tip").inner_text()
    assert "the base prefers" in told
    assert "rank" in told
    assert "by tuned: perplexity" in told


def test_flips_are_filtered_by_arm_task_and_kind_and_open_to_both_answers(opened: Opened, page: "Page") -> None:
    target = synthetic_report().targets[0]
    cell = next(cell for cell in target.arms[0].flips if cell.task == "pocket_sql")
    page.locator("#flip-arm").select_option(label="plain")
    page.locator("#flip-task").select_option(label="pocket_sql")
    assert f"{sum(cell.counts.values())} answers changed sides" in page.locator("#flip-facts").inner_text()
    kind, number = next((kind, number) for kind, number in cell.counts.items() if kind == "right → wrong form")
    page.locator("#flip-kind").select_option(label=f"{kind} ({number})")
    kinds = page.locator("#flip-list .flip-kind").all_inner_texts()
    assert kinds
    assert set(kinds) == {kind}
    first = page.locator("#flip-list details").first
    first.locator("summary").click()
    flip = next(one for one in cell.shown if one.outcome == "no_answer")
    text = first.inner_text()
    assert target.flip_problems[flip.problem].question in text
    assert target.flip_problems[flip.problem].gold in text
    assert flip.after.split(".")[0] in text
    assert opened.complaints == []


@pytest.mark.parametrize("kind", ["SVG", "PNG"])
def test_a_picture_is_saved_as_a_file(opened: Opened, page: "Page", kind: str) -> None:
    figure = page.locator("#drift figure")
    figure.hover()
    with page.expect_download(timeout=60_000) as download:
        figure.get_by_role("button", name=kind).click()
    content = Path(download.value.path()).read_bytes()
    assert download.value.suggested_filename.endswith(f".{kind.lower()}")
    if kind == "SVG":
        assert content.startswith(b"<svg")
        assert b"class=" not in content
    else:
        assert content[:8] == b"\x89PNG\r\n\x1a\n"
        assert int.from_bytes(content[16:20], "big") == 2 * 1080
    assert opened.complaints == []


def test_light_and_dark_differ_and_both_can_be_read(page: "Page") -> None:
    grounds: list[float] = []
    schemes: tuple[Scheme, ...] = ("dark", "light")
    for scheme in schemes:
        page.emulate_media(color_scheme=scheme)
        colours = [(rgb(text), rgb(ground)) for text, ground in page.evaluate(_COLOURS)]
        assert min(contrast(text, ground) for text, ground in colours) >= 4.0
        grounds.append(luminance(colours[0][1]))
    assert grounds[0] < 0.05
    assert grounds[1] > 0.8


def test_without_its_script_all_but_the_tokens_is_there(chromium: "Browser", opened: Opened) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(opened.url, timeout=120_000)
    assert page.locator("h1").inner_text() == synthetic_report().title
    assert "needs its script" in page.locator("#tokens").inner_text()
    context.close()


def rgb(css: str) -> tuple[float, ...]:
    return tuple(float(part) / 255 for part in css[css.index("(") + 1 : -1].split(",")[:3])


def luminance(colour: tuple[float, ...]) -> float:
    """Relative luminance as WCAG 2 defines it."""
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Contrast ratio as WCAG 2 defines it."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)
