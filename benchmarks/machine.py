"""One line on the command and the machine, for every figure to be taken again."""

import argparse
import os
import platform
import shlex
import sys
from importlib.metadata import version
from pathlib import Path


def describe_run() -> str:
    """The command line, processor, cores that may be used, load, and versions."""
    processor = platform.processor() or platform.machine()
    listed = Path("/proc/cpuinfo")
    if listed.is_file():
        names = [line.partition(":")[2].strip() for line in listed.read_text().splitlines() if "model name" in line]
        processor = names[0] if names else processor
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    command = shlex.join(["python", *sys.argv])
    return f"$ {command}\n{processor}, {cores} cores{load}; Python {platform.python_version()}, {versions}"


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print(describe_run())
