"""Kill scoring at random moments, again and again, and hold what it comes to against an undisturbed run."""

import hashlib
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path


def survive(data: Path, model: str, rows: int, kills: int, folder: Path) -> dict[str, object]:
    """SIGKILL ``tokensieve score`` so many times; a run that got done is begun anew in another folder."""
    chance = random.Random(0)

    def start(name: str) -> subprocess.Popen:
        options = ["--data", data, "--limit", rows, "--model", model, "--shard-rows", 16, "--token-budget", 1024]
        places = ["--out", folder / name, "--store", folder / f"store-{name}"]
        command = [sys.executable, "-m", "tokensieve", "score", "task:gsm8k/train", *options, *places]
        return subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    began = time.monotonic()
    if start("undisturbed").wait():
        raise SystemExit("the undisturbed run failed")
    seconds = time.monotonic() - began
    killed, when, same, run = 0, {"before the first shard": 0, "between shards": 0}, [], 0
    while killed < kills or same == []:
        out = folder / f"run-{run}"
        process = start(out.name)
        if killed < kills:
            try:
                process.wait(timeout=chance.uniform(0.2, 1.0) * seconds)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                killed += 1
                when["between shards" if list(out.glob("rows-*.parquet")) else "before the first shard"] += 1
        process.wait()
        if (out / "manifest.json").exists():
            same.append(_content(out) == _content(folder / "undisturbed"))
            run += 1
    return {"kills": killed, "when": when, "finished": len(same), "identical": sum(same), "seconds": seconds}


def _content(out: Path) -> dict[str, str]:
    """Every file of a finished folder by its digest; the manifest without its timing."""
    manifest = json.loads((out / "manifest.json").read_text())
    del manifest["timing"]
    shards = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.glob("*.parquet")}
    return {**shards, "manifest": json.dumps(manifest, sort_keys=True)}
