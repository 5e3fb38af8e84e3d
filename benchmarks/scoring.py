"""Time scoring against what else does it, on the same rows of GSM8K, and against what the machine could do.

    python benchmarks/scoring.py --data FOLDER                    # the 128 k vocabulary Llama type, float32
    python benchmarks/scoring.py --data FOLDER --model pocket
    python benchmarks/scoring.py --data FOLDER --dtype bfloat16   # bf16 backbone, float32 head
    python benchmarks/scoring.py --data FOLDER --processes        # one process against two, one core each
    python benchmarks/scoring.py --memory                         # resident memory against rows

FOLDER holds ``gsm8k/train.jsonl``. Every contender runs in a process of its own, so that peak memory is its own; the
weights are not counted. ``limit`` is the time of the matrix products alone, at the rate that this machine reaches on
large ones: the backbone's on all tokens, the head's on response tokens (attention's are left out).
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

CONTENDERS = ("ours", "one-row loop", "lm-eval HFLM", "TRL fused head", "vLLM")
_CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
_WORD = re.compile(r"\s?\w+|\s?[^\w\s]|\s")


@dataclass(frozen=True)
class Row:
    """A prompt and its response, as text and as ids."""

    prompt: str
    response: str
    prompt_ids: list[int]
    response_ids: list[int]


def main() -> None:
    options = _options()
    if options.contender:
        print(json.dumps(_run(options)))
    elif options.memory:
        _memory_table(options)
    elif options.processes:
        _processes_table(options)
    else:
        _contenders_table(options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", default="llama-90m", help="llama-90m, llama-3b (random weights), pocket, or a model")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--clock", default="wall", choices=["wall", "cpu"], help="cpu: for a busy machine, one thread")
    parser.add_argument("--processes", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--contender", default="", help=argparse.SUPPRESS)
    parser.add_argument("--portion", default="0/1", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--start-at", type=float, default=0.0, help=argparse.SUPPRESS)
    return parser.parse_args()


def _contenders_table(options: argparse.Namespace) -> None:
    print(f"{options.model}, {options.dtype}, {options.rows} rows; {options.threads} threads, {options.clock} time")
    print(f"{'':16}{'tok/s':>10}{'x one-row':>11}{'of limit':>10}{'peak MiB':>10}{'mean nll':>10}")
    limit = _child(options, "limit")
    found = {name: _child(options, name) for name in CONTENDERS}
    loop = found["one-row loop"]
    for name, result in found.items():
        if "skipped" in result:
            print(f"{name:16}{result['skipped']}")
            continue
        speed = result["tokens"] / result["seconds"]
        print(
            f"{name:16}{speed:10,.0f}{loop['seconds'] / result['seconds']:11.2f}"
            f"{limit['seconds'] / result['seconds']:10.2f}{result['peak_mib']:10,.0f}{result['nll']:10.4f}"
        )
    print(f"{'limit':16}{limit['tokens'] / limit['seconds']:10,.0f}   ({limit['rates']})")


def _child(options: argparse.Namespace, contender: str, **changes: object) -> dict[str, object]:
    """Run one contender in a process of its own."""
    values = {**vars(options), "contender": contender, **changes}
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


def _run(options: argparse.Namespace) -> dict[str, object]:
    """One contender, in this process."""
    import torch

    torch.set_num_threads(options.threads)
    if options.contender.startswith("memory:"):
        return _stream(int(options.contender.removeprefix("memory:")))
    loaded, rows = _model_and_rows(options)
    if options.contender == "limit":
        return _limit(loaded, rows, options)
    contender = _CONTENDERS[options.contender]
    try:
        contender(loaded, rows[:2], options)  # warm-up: kernels, caches
    except ImportError as error:
        return {"skipped": f"not installed ({error.name})"}
    while time.time() < options.start_at:
        time.sleep(0.001)
    before = _peak_mib()
    clock = _CLOCKS[options.clock]
    start = clock()
    nll = contender(loaded, rows, options)
    seconds = clock() - start
    tokens = sum(len(row.prompt_ids) + len(row.response_ids) for row in rows)
    return {"seconds": seconds, "tokens": tokens, "nll": nll, "peak_mib": _peak_mib() - before}


def _peak_mib() -> float:
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# --- models and rows -----------------------------------------------------------------------------------------------


def _model_and_rows(options: argparse.Namespace):
    from tokensieve.config import ModelSettings
    from tokensieve.models import load_model

    texts = _texts(options)
    if options.model.startswith("llama-"):
        loaded = _random_llama(options, texts)
    else:
        loaded = load_model(ModelSettings(model=options.model, dtype=options.dtype, device=options.device))
    encode = loaded.tokenizer.encode
    rows = []
    for prompt, response in texts:
        ids = (encode(prompt, add_special_tokens=False), encode(response, add_special_tokens=False))
        rows.append(Row(prompt, response, *ids))
    return loaded, rows


def _texts(options: argparse.Namespace) -> list[tuple[str, str]]:
    texts = []
    with (options.data / "gsm8k" / "train.jsonl").open(encoding="utf-8") as file:
        for line in file:
            record = json.loads(line)
            texts.append((record["question"], "\n" + record["answer"]))
            if len(texts) == options.rows:
                return texts
    return texts


def _random_llama(options: argparse.Namespace, texts: list[tuple[str, str]]):
    """A Llama type with random weights, and a word-level tokenizer whose lengths are like those of its real ones."""
    import torch
    from tokenizers import Regex, Tokenizer, pre_tokenizers
    from tokenizers.models import WordLevel
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from tokensieve.config import ModelSettings
    from tokensieve.data.manifest import ModelIdentity
    from tokensieve.models import LoadedModel

    words = sorted({word for pair in texts for text in pair for word in _WORD.findall(text)})
    vocabulary = {word: 10 + 7 * index for index, word in enumerate(words)} | {"<unk>": 0, "<end>": 1}
    backend = Tokenizer(WordLevel(vocab=vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(_WORD.pattern), "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>", pad_token="<end>")
    sizes = {
        "llama-90m": (512, 8, 8, 4, 1536),
        "llama-3b": (3072, 28, 24, 8, 8192),
    }[options.model]
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size")
    config = LlamaConfig(**dict(zip(names, sizes, strict=True)), vocab_size=128_256, tie_word_embeddings=True)
    device = options.device if options.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    with torch.device(device):
        model = LlamaForCausalLM._from_config(config, dtype=getattr(torch, options.dtype)).eval()
    identity = ModelIdentity(name=options.model, weights_digest="random", dtype=options.dtype, attention="sdpa")
    return LoadedModel(model, tokenizer, identity, ModelSettings(model=options.model, device=device))


# --- contenders: each returns the mean nll of the response tokens, so that a table shows they did the same ------------


def _ours(loaded, rows: list[Row], options: argparse.Namespace) -> float:
    from tokensieve.config import ScoreSettings
    from tokensieve.data.folder import in_memory
    from tokensieve.data.manifest import Manifest
    from tokensieve.engine import parse_portion
    from tokensieve.scoring import score

    settings = ScoreSettings(use_store=False, shard_rows=max(1, len(rows) // 8) if options.out else 512)
    portion = parse_portion(options.portion)
    # The warm-up has a folder of its own; two processes share theirs.
    out = options.out and options.out / f"{len(rows)}-rows-{portion.count}"
    tokens = in_memory(_tokens(rows), Manifest(stage="tokens"))
    scored = score(tokens, loaded, settings, out=out, portion=portion)
    nll = np.concatenate([row.nll_T() for row in scored])
    return float(np.nanmean(nll))


def _long_row(loaded, rows: list[Row], options: argparse.Namespace) -> float:
    """One row of 8,192 tokens, made of the given ones."""
    if len(rows) == 2:  # the warm-up
        return _ours(loaded, rows, options)
    ids = [token for row in rows for token in (*row.prompt_ids, *row.response_ids)]
    ids = (ids * (1 + 8192 // len(ids)))[:8192]
    loaded.model.config.max_position_embeddings = 8192
    return _ours(loaded, [Row("", "", ids[:4096], ids[4096:])], options)


def _tokens(rows: list[Row]):
    from tokensieve.types import Tokens, ints

    made = []
    for index, row in enumerate(rows):
        ids_T = ints([*row.prompt_ids, *row.response_ids])
        in_response_T = np.arange(len(ids_T)) >= len(row.prompt_ids)
        made.append(Tokens(f"row-{index}", ids_T, in_response_T, np.zeros(len(ids_T), dtype=np.bool_)))
    return made


def _one_row_loop(loaded, rows: list[Row], options: argparse.Namespace) -> float:  # noqa: ARG001
    """One row at a time, full logits in float32: the plain way."""
    import torch

    nll = []
    with torch.inference_mode():
        for row in rows:
            ids = torch.tensor([[*row.prompt_ids, *row.response_ids]], device=loaded.device)
            logits_TV = loaded.model(input_ids=ids, use_cache=False).logits[0, :-1].float()
            nll_T = torch.nn.functional.cross_entropy(logits_TV, ids[0, 1:], reduction="none")
            nll.append(nll_T[len(row.prompt_ids) - 1 :].cpu().numpy())
    return float(np.concatenate(nll).mean())


def _lm_eval(loaded, rows: list[Row], options: argparse.Namespace) -> float:  # noqa: ARG001
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    harness = HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=8, max_length=2048)
    asked = [Instance("loglikelihood", {}, (row.prompt, row.response), index) for index, row in enumerate(rows)]
    sums = harness.loglikelihood(asked, disable_tqdm=True)
    return -sum(total for total, _ in sums) / sum(len(row.response_ids) for row in rows)


def _trl(loaded, rows: list[Row], options: argparse.Namespace) -> float:  # noqa: ARG001
    """TRL's fused head with rows sorted by length, padded, under our own token budget."""
    import torch
    from trl.trainer.utils import add_fused_lm_head

    if not getattr(loaded.model, "_fused_for_benchmark", False):
        add_fused_lm_head(loaded.model, cast_lm_head_to_fp32=True, outputs=("log_probs", "entropy", "is_top1"))
        loaded.model._fused_for_benchmark = True
    total, count = 0.0, 0
    order = sorted(rows, key=lambda row: -len(row.prompt_ids) - len(row.response_ids))
    with torch.inference_mode():
        for batch in _batches(order, 4096):
            longest = len(batch[0].prompt_ids) + len(batch[0].response_ids)
            ids_BT = torch.zeros((len(batch), longest), dtype=torch.long)
            labels_BT = torch.full_like(ids_BT, -100)
            for index, row in enumerate(batch):
                length = len(row.prompt_ids) + len(row.response_ids)
                ids_BT[index, :length] = torch.tensor([*row.prompt_ids, *row.response_ids])
                labels_BT[index, len(row.prompt_ids) : length] = torch.tensor(row.response_ids)
            ids_BT, labels_BT = ids_BT.to(loaded.device), labels_BT.to(loaded.device)
            found = loaded.model(input_ids=ids_BT, labels=labels_BT, fused_lm_head=True)
            total -= float(found.log_probs.double().sum())  # 0 at ignored places
            count += int((labels_BT[:, 1:] != -100).sum())
    return total / count


def _batches(rows: list[Row], budget: int) -> Iterator[list[Row]]:
    batch: list[Row] = []
    for row in rows:
        longest = len(batch[0].prompt_ids) + len(batch[0].response_ids) if batch else 0
        if batch and (len(batch) + 1) * longest > budget:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _vllm(loaded, rows: list[Row], options: argparse.Namespace) -> float:  # noqa: ARG001
    import vllm  # noqa: F401

    raise ImportError("a random model has no folder for vLLM to load", name="vllm needs --model FOLDER")


_CONTENDERS: dict[str, Callable[..., float]] = {
    "ours": _ours,
    "long row": _long_row,
    "one-row loop": _one_row_loop,
    "lm-eval HFLM": _lm_eval,
    "TRL fused head": _trl,
    "vLLM": _vllm,
}


# --- the limit -----------------------------------------------------------------------------------------------------


def _limit(loaded, rows: list[Row], options: argparse.Namespace) -> dict[str, object]:
    """Seconds for the matrix products that have to be done, at the rate of large ones in the numbers they are in."""
    import torch

    tokens = sum(len(row.prompt_ids) + len(row.response_ids) for row in rows)
    answers = sum(len(row.response_ids) for row in rows)
    head = loaded.model.get_output_embeddings()
    linear = [m for m in loaded.model.modules() if isinstance(m, torch.nn.Linear) and m is not head]
    body = 2.0 * tokens * sum(layer.weight.numel() for layer in linear)
    top = 2.0 * answers * head.weight.numel()
    body_rate = _rate(loaded.device, getattr(torch, options.dtype), _CLOCKS[options.clock])
    top_rate = _rate(loaded.device, torch.float32, _CLOCKS[options.clock])
    rates = f"{options.dtype} {body_rate / 1e9:,.0f} and float32 {top_rate / 1e9:,.0f} GFLOP/s"
    return {"seconds": body / body_rate + top / top_rate, "tokens": tokens, "rates": rates}


def _rate(device, dtype, clock: Callable[[], float]) -> float:
    """The best rate of a square product, in FLOP/s."""
    import torch

    best = 0.0
    for size in (1024, 2048) if device.type == "cpu" else (4096, 8192):
        one, other = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        for _ in range(8):
            start = clock()
            torch.mm(one, other)
            if device.type == "cuda":
                torch.cuda.synchronize()
            best = max(best, 2.0 * size**3 / (clock() - start))
    return best


# --- processes and memory --------------------------------------------------------------------------------------------


def _processes_table(options: argparse.Namespace) -> None:
    """One process with one core against two with one core each, on the same rows; from a common start."""
    with tempfile.TemporaryDirectory() as folder:
        alone = _child(options, "ours", threads=1, out=folder)
        start_at = time.time() + 45
        command_options = [
            {"threads": 1, "portion": f"{index}/2", "out": folder, "start_at": start_at} for index in range(2)
        ]
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(2) as pool:
            both = list(pool.map(lambda changes: _child(options, "ours", **changes), command_options))
    seconds = max(result["seconds"] for result in both)
    print(f"one process, one core: {alone['seconds']:.1f} s; two processes, one core each: {seconds:.1f} s")
    print(f"{alone['seconds'] / seconds:.2f} times as fast")


def _memory_table(options: argparse.Namespace) -> None:
    """Resident memory of reading, storing and writing against rows; the scores are made up, the rest is real."""
    print(f"{'rows':>10}{'peak MiB':>10}{'seconds':>10}")
    for rows in (1_000, 10_000, 100_000, 1_000_000):
        result = _child(options, f"memory:{rows}")
        print(f"{rows:>10,}{result['peak_mib']:>10,.0f}{result['seconds']:>10.0f}", flush=True)
    result = _child(options, "long row")
    print(f"one row of 8,192 tokens, half of them scored: {result['peak_mib']:,.0f} MiB above the weights")


def _stream(count: int) -> dict[str, object]:
    """Score ``count`` short rows into a folder and a store, with a backend that computes nothing."""
    from tokensieve.config import ScoreSettings
    from tokensieve.data.folder import Rows
    from tokensieve.data.manifest import Counts, Manifest, ModelIdentity
    from tokensieve.data.store import Record
    from tokensieve.scoring import score_with
    from tokensieve.types import Tokens

    class Nothing:
        identity = ModelIdentity(name="nothing", weights_digest="0")
        facts: dict[str, object] = {}  # noqa: RUF012
        longest = vocabulary = None
        tells_entropy = tells_rank = True

        def pinned(self, facts: object) -> "Nothing":  # noqa: ARG002
            return self

        def answer(self, requests, *, entropy: bool, rank: bool) -> list[Record]:  # noqa: ARG002
            return [Record(np.zeros(len(r.places_N), np.float32)) for r in requests]

    def rows() -> Iterator[Tokens]:
        for index in range(count):
            ids_T = np.array([index & 0xFFFF, index >> 16, 3, 4, 5, 6, 7, 8], dtype=np.int32)
            yield Tokens(str(index), ids_T, np.arange(8) > 3, np.zeros(8, dtype=np.bool_))

    start = time.perf_counter()
    manifest = Manifest(stage="tokens", counts=Counts(rows_out=count))
    with tempfile.TemporaryDirectory() as folder:
        settings = ScoreSettings(entropy=False, rank=False, store=Path(folder) / "store")
        score_with(Rows(manifest, rows), Nothing(), settings, out=Path(folder) / "out")
    return {
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "seconds": time.perf_counter() - start,
    }


if __name__ == "__main__":
    main()
