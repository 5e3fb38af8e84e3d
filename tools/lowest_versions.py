"""Print the lowest release of each direct dependency that pyproject.toml allows, one ``name==version`` a line.

PyTorch is left out: builds for the CPU alone cannot be had by name for every release, so it is installed first.
"""

import argparse
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

OWN_CHOICE = ("torch",)


def lowest(requirements: list[str]) -> Iterator[str]:
    """A pin on the lower bound of each requirement that has one."""
    for text in requirements:
        wanted = Requirement(text)
        bounds = [bound.version for bound in wanted.specifier if bound.operator == ">="]
        if bounds and wanted.name not in OWN_CHOICE:
            yield f"{wanted.name}=={bounds[0]}"


def main() -> int:
    """Print the pins of the package itself and of the extras that the tests need."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    print("\n".join(lowest([*project["dependencies"], *extras["test"], *extras["gguf"]])))
    return 0


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    sys.exit(main())
