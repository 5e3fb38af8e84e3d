"""Modules that a warm row of ``tokensieve score`` passes: ``python benchmarks/scoring_path.py``.

Scores four rows twice and lists, in order, the modules of the package with a function that the second run calls.
"""

import argparse
import json
import os
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["TOKENSIEVE_CACHE"] = str(folder / "cache")
        data = folder / "data.jsonl"
        rows = ({"prompt": f"Sort: fig pear {n}", "completion": f"{n} pear fig"} for n in range(4))
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        import tokensieve
        from tokensieve.cli import main as command

        package = str(Path(tokensieve.__file__).parent)
        passed: dict[str, None] = {}

        def profile(frame: FrameType, event: str, _: object) -> None:
            code = frame.f_code
            if event == "call" and code.co_filename.startswith(package) and code.co_name != "<module>":
                passed.setdefault(code.co_filename.removeprefix(f"{package}/"))

        command(["score", str(data), "--out", str(folder / "cold")])
        threading.setprofile(profile)
        sys.setprofile(profile)
        command(["score", str(data), "--out", str(folder / "warm")])
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    print("\n".join(passed))
    print(f"{len(passed)} modules, {sum(one.startswith('scoring/') for one in passed)} of them in scoring")


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    main()
