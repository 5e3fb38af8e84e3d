"""Time until a report's largest page is there, in headless Chromium: python benchmarks/report_page.py [REPORT_HTML].

Without a file it writes the page of ten arms, two targets and five seeds that the test of the 5 MB limit uses. Each
repetition is a fresh page in a running browser: time from the start of the navigation to DOMContentLoaded, and to the
first filtered list of flips on the screen; and the filter alone.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from machine import describe_run
from playwright.sync_api import sync_playwright
from tests.large_report import large_report

from tokensieve.report import write_report
from tokensieve.report.plot_files import find_chromium

REPETITIONS = 7
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")

# Runs in the page before its own script: filters the flips as soon as they can be, and notes when that is painted.
FILTER = """(() => {
  const times = (window.measured = {});
  document.addEventListener('DOMContentLoaded', () => {
    times.loaded = performance.now();
    const wait = () => {
      const panel = document.getElementById('flip-browser');
      if (!panel || panel.hidden) return setTimeout(wait, 1);
      const kinds = document.getElementById('flip-kind');
      const before = performance.now();
      kinds.value = kinds.options[1].value;
      kinds.dispatchEvent(new Event('change'));
      requestAnimationFrame(() => setTimeout(() => {
        times.filtered = performance.now();
        times.filter = times.filtered - before;
      }));
    };
    wait();
  });
})()"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", nargs="?", type=Path, metavar="REPORT_HTML", help="without it, one is made")
    given: Path | None = parser.parse_args().report
    chromium = find_chromium()
    if chromium is None:
        sys.exit("no Chromium on this system (Debian: apt install chromium)")
    print(describe_run())
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as started:
        page_file = given or write_report(large_report(), folder)
        print(f"{page_file.stat().st_size / 1e6:.2f} MB of HTML, {REPETITIONS} repetitions: median (least to most)")
        browser = started.chromium.launch(executable_path=chromium, args=list(ARGUMENTS), timeout=120_000)
        found = []
        for _ in range(REPETITIONS):
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.set_default_timeout(120_000)
            page.add_init_script(FILTER)
            page.goto(page_file.resolve().as_uri())
            page.wait_for_function("window.measured.filtered")
            found.append(page.evaluate("window.measured"))
            page.close()
        browser.close()
    names = {"loaded": "to DOMContentLoaded", "filtered": "to the first filtered flips", "filter": "the filter alone"}
    for key, name in names.items():
        seconds = sorted(one[key] / 1000 for one in found)
        print(f"  {name:28} {statistics.median(seconds):6.3f} s ({seconds[0]:.3f} to {seconds[-1]:.3f})")


if __name__ == "__main__":
    main()
