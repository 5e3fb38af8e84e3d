"""Write pocket's problems from seeds: ``python -m tools.pocket.problems --out DIR``; the default is what is shipped.

A folder with larger splits (``--train 2000``) is read by the package's tasks with ``--data DIR``.
"""

import argparse
import gzip
import json
import sys
from dataclasses import asdict
from pathlib import Path

from tools.pocket.generator.seeding import SPLITS, Part
from tools.pocket.generator.splits import SIZES, TASK_DRAWS, generate

from tokensieve.tasks.pocket import PROBLEMS


def write_problems(out: Path, sizes: dict[Part, int]) -> None:
    """Write ``TASK/SPLIT.jsonl.gz`` for every task and split; the bytes depend on the sizes and on zlib alone."""
    for task in TASK_DRAWS:
        (out / task).mkdir(parents=True, exist_ok=True)
        for split in SPLITS:
            rows = (json.dumps(asdict(problem), ensure_ascii=False) for problem in generate(task, split, sizes[split]))
            packed = gzip.compress("".join(f"{row}\n" for row in rows).encode(), compresslevel=9, mtime=0)
            (out / task / f"{split}.jsonl.gz").write_bytes(packed)


def main(arguments: list[str]) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=PROBLEMS, help="folder of the problems (default: the package's)")
    for split, size in SIZES.items():
        parser.add_argument(f"--{split}", type=int, default=size, help=f"problems in {split} (default: {size})")
    given = parser.parse_args(arguments)
    write_problems(given.out, {split: getattr(given, split) for split in SPLITS})


if __name__ == "__main__":
    main(sys.argv[1:])
