"""Exported folders through a trainer's own code; run it inside that trainer's environment.

    python tests/contract/trainers/check.py litgpt

Exit code 0 where every (row, position, token) that the trainer trains is one that was selected, 1 where not.
"""

import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[3] / "src"), str(Path(__file__).parents[3])]

from tests.export_rows import selected_rows  # noqa: E402

from tokensieve.data.export import TRAINERS, export  # noqa: E402
from tokensieve.data.verify import verify_export  # noqa: E402


def main(trainer: str) -> int:
    """Export random rows in each format the trainer loads, soft weights too where it takes them."""
    fine = True
    for kind in TRAINERS[trainer].formats:
        for soft in (False, True) if TRAINERS[trainer].weights else (False,):
            rows = selected_rows(20, soft=soft)
            with tempfile.TemporaryDirectory() as scratch:
                folder = export(rows, Path(scratch) / "out", to=trainer, format=kind)
                result = verify_export(folder, trainer, selected=rows, how="trainer")
            sys.stdout.write(f"{trainer}, {kind}{', weights' if soft else ''}: {result.describe()}\n")
            fine &= result.ok
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
