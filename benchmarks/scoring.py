"""Time scoring against what else does it, on the same rows of GSM8K, and against what the machine could do.

    python benchmarks/scoring.py --data FOLDER                    # the 128 k vocabulary Llama type, float32
    python benchmarks/scoring.py --data FOLDER --quick            # few rows, one round: does it run?
    python benchmarks/scoring.py --data FOLDER --rows 96 --rounds 3 --only ours   # one line, measured longer
    python benchmarks/scoring.py --data FOLDER --model pocket
    python benchmarks/scoring.py --data FOLDER --dtype bfloat16   # bf16 backbone, float32 head
    python benchmarks/scoring.py --data FOLDER --processes        # one process against two, one core each
    python benchmarks/scoring.py --data FOLDER --budgets 4096,8192,16384,32768    # speed and peak against batch size
    python benchmarks/scoring.py --memory                         # resident memory against rows
    python benchmarks/scoring.py --data FOLDER --profile          # where ours spends its time
    python benchmarks/scoring.py --data FOLDER --model pocket --kills 20   # SIGKILL at random moments

FOLDER holds ``gsm8k/train.jsonl``. Every contender runs in a process of its own, so that peak memory is its own; the
weights and libraries are not counted. (On a GPU ours share a process: the device's peak can be set back.)
``limit`` is the time of the matrix products alone, at the rate that this
machine reaches on large ones: the backbone's on all tokens, the head's on response tokens (attention's are left out).
A shared machine's speed wanders from minute to minute, so ours, the plain loop and the limit take turns for some
rounds, and the best time of each counts; the others run once. The default sizes take under three minutes on two cores.
A line comes as soon as it is measured. ``flips`` are tokens that change sides at perplexity 2.5 against ours in eager
mode and the largest difference in nats, both over the same rows.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import scoring_memory as memory
from machine import describe_run
from scoring_contenders import CONTENDERS, EAGER, OTHERS, PACKAGES, REPEATED, Skipped, reason_not_to_run
from scoring_limit import limit, profile
from scoring_subjects import SIZES, model_and_rows
from scoring_survival import survive

_SUBJECTS: dict[tuple[str, str, int], tuple] = {}
"""The model and its rows, for the next contender in the same process."""

IN_PROCESS = {"limit", *CONTENDERS} - set(PACKAGES)

_CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


def main() -> None:
    options = _options()
    if options.contender:
        print(json.dumps(_run(options)))
        return
    print(describe_run())
    if options.memory:
        _memory_table(options)
    elif options.budgets:
        _budgets_table(options)
    elif options.kills:
        _survival(options)
    elif options.profile:
        _profile_table(options)
    elif options.processes:
        _processes_table(options)
    else:
        _contenders_table(options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", default="llama-90m", help=f"{', '.join(SIZES)} (random weights), pocket, or a model")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rows", type=int, default=40)
    parser.add_argument("--quick", action="store_true", help="four rows, one round")
    parser.add_argument("--only", default="", help="contenders of the table, by name, with semicolons between")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--clock", default="wall", choices=["wall", "cpu"], help="cpu: for a busy machine, one thread")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--processes", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--budgets", default="", help="tokens in a batch, with commas between")
    parser.add_argument("--budget", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--most-rows", type=int, default=1_000_000, help="of --memory")
    parser.add_argument("--contender", default="", help=argparse.SUPPRESS)
    parser.add_argument("--portion", default="0/1", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--nll", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--start-at", type=float, default=0.0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.rows, options.rounds = 4, 1
    return options


def _contenders_table(options: argparse.Namespace) -> None:
    print(f"{options.model}, {options.dtype}, {options.rows} rows; {options.threads} threads, {options.clock} time")
    print(f"best of {options.rounds} rounds of {'; '.join(REPEATED)}")
    names = [name for name in CONTENDERS if not options.only or name in options.only.split(";")]
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{number}.npy" for number, name in enumerate(CONTENDERS)}

        def best(name: str) -> dict[str, object]:
            rounds = options.rounds if name in REPEATED else 1
            return min(
                (_child(options, name, nll=files.get(name)) for _ in range(rounds)),
                key=lambda result: result.get("seconds", 0.0),
            )

        bound, loop = best("limit"), best("one-row loop")
        measured = {name: best(name) for name in names if name == EAGER}  # first: others are compared with it
        if "skipped" in bound or "skipped" in loop:
            raise SystemExit(str(bound.get("skipped") or loop.get("skipped")))
        print(f"{'limit':28}{bound['tokens'] / bound['seconds']:10,.0f}   ({bound['rates']})")
        print(f"{'':28}{'tok/s':>10}{'x one-row':>11}{'of limit':>10}{'peak MiB':>10}{'mean nll':>10}  flips")
        for name in names:
            result = loop if name == "one-row loop" else measured.get(name) or best(name)
            if "skipped" in result:
                print(f"{name:28}{result['skipped']}", flush=True)
                continue
            speed = result["tokens"] / result["seconds"]
            print(
                f"{name:28}{speed:10,.0f}{loop['seconds'] / result['seconds']:11.2f}"
                f"{bound['seconds'] / result['seconds']:10.2f}{result['peak_mib']:10,.0f}{result['nll']:10.4f}"
                f"  {_flips(files[name], files[EAGER if files[EAGER].exists() else 'ours'])}",
                flush=True,
            )
    if options.dtype != "float32" and not options.only:
        whole = _child(options, "one-row loop", dtype="float32")["seconds"]
        print(f"{'loop in float32':28}{bound['tokens'] / whole:10,.0f}{loop['seconds'] / whole:11.2f}")


def _budgets_table(options: argparse.Namespace) -> None:
    """Speed and peak memory of ours by tokens in a batch; 0 is what it finds by itself."""
    print(f"{options.model}, {options.dtype}, {options.rows} rows")
    print(f"{'tokens in a batch':20}{'tok/s':>10}{'peak MiB':>10}")
    for budget in (0, *map(int, options.budgets.split(","))):
        result = _child(options, "ours", budget=budget or None)
        if "skipped" in result:
            print(f"{budget:<20,}{result['skipped']}", flush=True)
            continue
        speed = result["tokens"] / result["seconds"]
        print(f"{budget or 'found by itself':<20}{speed:10,.0f}{result['peak_mib']:10,.0f}", flush=True)


def _flips(nll: Path, eager: Path) -> str:
    """Tokens that change sides at perplexity 2.5 against the eager backbone, and the largest difference in nats."""
    if nll == eager or not (nll.exists() and eager.exists()):
        return ""
    one_N, other_N = np.load(nll), np.load(eager)
    if len(one_N) != len(other_N):  # a mean only
        return ""
    flips = int(((one_N <= np.log(2.5)) != (other_N <= np.log(2.5))).sum())
    return f"{flips} of {len(one_N):,}, {np.abs(one_N - other_N).max():.1e} nats"


def _child(options: argparse.Namespace, contender: str, **changes: object) -> dict[str, object]:
    """Run one contender in a process of its own, or on a GPU in this one."""
    values = {**vars(options), "contender": contender, **changes}
    on_gpu = _on_gpu(options)
    if (reason := reason_not_to_run(contender, options, on_gpu=on_gpu)) is not None:
        return {"skipped": f"not measured: {reason}"}
    if on_gpu and contender in IN_PROCESS:
        try:
            return _run(argparse.Namespace(**values))
        except Exception as error:  # noqa: BLE001 - a table without one line is still a table
            return {"skipped": " ".join(f"failed: {type(error).__name__}: {error}".split())[:200]}
    command = [sys.executable, __file__]
    for name, value in values.items():
        if value is not None and not isinstance(value, bool):
            command += [f"--{name.replace('_', '-')}", str(value)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(values["threads"])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        return {
            "skipped": f"failed: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else done.returncode}"
        }
    return json.loads(done.stdout.strip().splitlines()[-1])


def _on_gpu(options: argparse.Namespace) -> bool:
    import torch

    return options.device != "cpu" and torch.cuda.is_available()


def _run(options: argparse.Namespace) -> dict[str, object]:
    """One contender, in this process."""
    import torch

    torch.set_num_threads(options.threads)
    if options.contender.startswith("memory:"):
        return memory.stream(int(options.contender.removeprefix("memory:")))
    subject = (options.model, options.dtype, options.rows)
    if subject not in _SUBJECTS:
        _SUBJECTS.clear()  # two large models may be one too many
        _SUBJECTS[subject] = model_and_rows(options)
    loaded, rows = _SUBJECTS[subject]
    if options.contender == "limit":
        return limit(loaded, rows, _CLOCKS[options.clock], options.dtype)
    contender = {**CONTENDERS, **OTHERS}[options.contender.removeprefix("profile:")]
    before = memory.resident_mib()
    try:
        contender(loaded, rows[:2], options)  # warm-up: kernels, caches
    except ImportError as error:
        return {"skipped": f"not measured: {error.name} is not installed"}
    except Skipped as reason:
        return {"skipped": f"not measured: {reason}"}
    while time.time() < options.start_at:
        time.sleep(0.001)
    memory.reset_peak()
    clock = _CLOCKS[options.clock]
    if options.contender.startswith("profile:"):
        return profile(lambda: contender(loaded, rows, options))
    start = clock()
    nll_N = contender(loaded, rows, options)
    seconds = clock() - start
    if options.nll is not None:
        np.save(options.nll, nll_N)
    tokens = sum(len(row.ids) for row in rows)
    return {"seconds": seconds, "tokens": tokens, "nll": float(nll_N.mean()), "peak_mib": memory.peak_mib() - before}


def _profile_table(options: argparse.Namespace) -> None:
    found = _child(options, "profile:ours")
    total = sum(seconds for name, seconds in found.items() if not name.startswith(" "))
    print(
        f"{options.model}, {options.dtype}, {options.rows} rows; {options.threads} threads; {total:.2f} s in operations"
    )
    for name, seconds in found.items():
        print(f"{name:60}{seconds:8.2f} s{seconds / total:8.1%}")


def _processes_table(options: argparse.Namespace) -> None:
    """One process with one core against two with one core each, on the same rows; from a common start."""
    with tempfile.TemporaryDirectory() as folder:
        rounds = [_processes_round(options, Path(folder) / str(index)) for index in range(options.rounds)]
    alone, both = (min(seconds) for seconds in zip(*rounds, strict=True))
    print(f"best of {options.rounds} rounds")
    print(f"one process, one core: {alone:.1f} s; two processes, one core each: {both:.1f} s")
    print(f"{alone / both:.2f} times as fast")


def _processes_round(options: argparse.Namespace, folder: Path) -> tuple[float, float]:
    """Seconds of the one and of the two."""
    alone = _child(options, "ours", threads=1, out=folder / "one")
    start_at = time.time() + 30
    changes = [
        {"threads": 1, "portion": f"{index}/2", "out": folder / "two", "start_at": start_at} for index in range(2)
    ]
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda change: _child(options, "ours", **change), changes))
    return alone["seconds"], max(result["seconds"] for result in both)


def _memory_table(options: argparse.Namespace) -> None:
    """Resident memory of reading, storing and writing against rows; the scores are made up, the rest is real."""
    print(f"{'rows':>10}{'peak MiB':>10}{'seconds':>10}")
    for rows in (1_000, 10_000, 100_000, 1_000_000):
        if rows > options.most_rows:
            break
        result = _child(options, f"memory:{rows}")
        print(f"{rows:>10,}{result['peak_mib']:>10,.0f}{result['seconds']:>10.0f}", flush=True)
    result = _child(options, "long row")
    print(f"one row of 8,192 tokens, half of them scored: {result['peak_mib']:,.0f} MiB above the weights")


def _survival(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = survive(options.data, options.model, options.rows, options.kills, Path(folder))
    moments = ", ".join(f"{count} {moment}" for moment, count in found["when"].items())
    print(f"an undisturbed run takes {found['seconds']:.1f} s; killed {found['kills']} times: {moments}")
    print(f"{found['identical']} of {found['finished']} finished runs are byte for byte the undisturbed one")


if __name__ == "__main__":
    main()
