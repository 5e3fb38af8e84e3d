"""Write a report's scatter plots (BWT against the target's gain) as SVG files of their own, for the README.

python -m tools.readme_plot RUN_FOLDER docs/images
"""

import sys
from pathlib import Path

from tokensieve.report import plots, read_report

_WIDTH = 560
_CSS = Path(plots.__file__).parents[1] / "page.css"


def main(run: Path, out: Path) -> None:
    """Write one SVG a target, with the page's style sheet inside so that it follows light and dark."""
    out.mkdir(parents=True, exist_ok=True)
    for target in read_report(run).targets:
        drawn = plots.scatter(target, plots.arm_styles(target.arms), _WIDTH)
        if drawn is None:
            sys.exit(f"{target.task}: nothing to draw")
        style = _CSS.read_text(encoding="utf-8").replace("&", "&amp;").replace("<", "&lt;")
        head, rest = str(drawn).split(">", 1)
        head = head.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
        svg = f"{head}><style>{style}</style>{rest}"
        path = out / f"{target.task}.svg"
        path.write_text(svg + "\n", encoding="utf-8")
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
