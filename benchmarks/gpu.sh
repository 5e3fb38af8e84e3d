#!/usr/bin/env bash
# All tables of scoring, sampling and training on a GPU: benchmarks/gpu.sh [FOLDER of data, ../shared/data by default]
# TINY=1 runs the same on a CPU with tiny sizes, to see that it runs. REAL_MODEL=FILE.gguf takes those weights in place
# of the embedded model's, and draws answers with them too.
# Every step has a time limit of its own, so that one that hangs takes nothing from the others.
set -u
cd "$(dirname "$0")/.."
data=${1:-../shared/data}
python=${PYTHON:-python}
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}" TOKENIZERS_PARALLELISM=false HF_HUB_DISABLE_PROGRESS_BARS=1

step() {  # step SECONDS TITLE COMMAND…
    local limit=$1 title=$2 start=$SECONDS
    shift 2
    printf '\n== %s\n' "$title"
    timeout "$limit" "$@" || printf 'stopped with code %s\n' "$?"
    printf '(%s s)\n' "$((SECONDS - start))"
}
score() { step "$1" "$2" "$python" benchmarks/scoring.py --data "$data" "${@:3}"; }
sample() { step "$1" "$2" "$python" benchmarks/sampling.py "${@:3}"; }
train() {
    [ -f benchmarks/training.py ] && step "$1" "a training step beside TRL's" "$python" benchmarks/training.py "${@:2}"
}

printf '== card and versions\n'
command -v nvidia-smi > /dev/null && nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader
"$python" - <<'END'
import importlib.metadata as metadata

import torch

for name in ("torch", "triton", "transformers", "trl", "peft", "liger-kernel", "kernels", "vllm", "flash-attn"):
    try:
        print(f"{name} {metadata.version(name)}")
    except metadata.PackageNotFoundError:
        print(f"{name} is not installed")
print(f"CUDA {torch.version.cuda}, {torch.cuda.device_count()} devices")
END

if [ -n "${TINY:-}" ]; then
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
    cpu="--device cpu --threads $OMP_NUM_THREADS"
    # Limits of minutes: a CPU may be busy with something else, and compiling alone takes one of its cores that long.
    score 300 "scoring, tiny shape" --model llama-tiny --quick $cpu --only "ours;ours, padded;one-row loop"
    score 300 "scoring, speed and peak by batch" --model llama-tiny --quick $cpu --budgets 256
    score 600 "scoring, real weights: tokens that flip" --model pocket --quick $cpu --only "ours;ours, compiled"
    sample 300 "sampling, tiny" --model random --quick --batch-size 8 --device cpu
    train 600 --quick --model pocket
    exit
fi

half="--dtype bfloat16 --device cuda"
score 100 "scoring, Llama-3.2-3B's shape" --model llama-3b --rows 600 --rounds 1 $half
score 45 "scoring, speed and peak by batch" --model llama-3b --rows 600 $half --budgets 4096,16384,65536
score 60 "scoring, SmolLM2-135M's shape" --model llama-135m --rows 1500 --rounds 1 $half
score 35 "scoring, real weights: tokens that flip" --model "${REAL_MODEL:-pocket}" --rows 400 --rounds 1 $half \
    --only "ours;ours, eager;ours, padded"
sample 70 "sampling, SmolLM2-135M's shape" --model llama-135m --dtype bfloat16 --prompts 512 --new-tokens 128 \
    --batch-size 512
[ -z "${REAL_MODEL:-}" ] || sample 60 "sampling, real weights" --model "$REAL_MODEL" --dtype bfloat16 --prompts 128 \
    --new-tokens 128 --batch-size 128
train 45 --quick
