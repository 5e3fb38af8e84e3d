"""Write the pictures of a report's targets (what was learnt against what was kept) as SVG files, for the README.

python -m tools.readme_plot RUN_FOLDER docs/images
"""

import argparse
import sys
from pathlib import Path

from tokensieve.report import plots, read_report
from tokensieve.report.plot_files import standalone

_WIDTH = 560


def main(run: Path, out: Path) -> None:
    """Write one SVG a target."""
    out.mkdir(parents=True, exist_ok=True)
    for target in read_report(run).targets:
        drawn = plots.target_picture(target, plots.arm_styles(target.arms), _WIDTH)
        if drawn is None:
            sys.exit(f"{target.task}: nothing to draw")
        path = out / f"{target.task}.svg"
        path.write_text(standalone(str(drawn)), encoding="utf-8")
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN_FOLDER", help="folder of a study")
    parser.add_argument("out", type=Path, metavar="FOLDER", help="folder of the pictures")
    given = parser.parse_args()
    main(given.run, given.out)
