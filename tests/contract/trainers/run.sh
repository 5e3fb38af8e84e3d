#!/bin/sh
# Check exports inside the trainers themselves, each in an environment of its own under build/trainers.
# Usage: sh tests/contract/trainers/run.sh [TRAINER...]; no part of the quick tests: it installs several GB.
#
# For each trainer: its release from PyPI with all that it asks for, then its own data path over exports in every format
# that it loads, then a training run by the command of the export's README. A trainer that does not install is skipped
# with the installer's last line. Exit code 1 where a check fails, 0 where every trainer passed or was skipped.
set -u
cd "$(dirname "$0")/../../.."
logs=build/trainers/logs
mkdir -p "$logs"
# Any of them would otherwise choose a PyTorch of its own, and replace the one that is there.
echo "torch==2.13.0" > build/trainers/constraint.txt
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

packages_of() {
  case $1 in
    trl) echo "trl==1.16.0 transformers==5.23.0" ;;
    litgpt) echo "litgpt==0.5.13 datasets transformers" ;;
    llamafactory) echo "llamafactory==0.9.5" ;;
    axolotl) echo "axolotl==0.19.0" ;;
    ms-swift) echo "ms-swift==4.6.0" ;;
    # Without its pin a newer triton is taken, which PyTorch 2.13 does not work with.
    automodel) echo "nemo-automodel==0.7.0 triton==3.7.1" ;;
    *) return 1 ;;
  esac
}

# Automodel's recipe calls CUDA whatever the device, so without a GPU only its data path and configuration are checked.
runs_here() { [ "$1" != automodel ] || command -v nvidia-smi >/dev/null 2>&1; }

install() {
  place="build/trainers/$1"
  [ -f "$place/.installed" ] && return 0
  rm -rf "$place"
  python3 -m venv "$place" || return 1
  "$place/bin/pip" install -q torch==2.13.0 || return 1
  # shellcheck disable=SC2046 # several packages
  PIP_CONSTRAINT=build/trainers/constraint.txt "$place/bin/pip" install -q $(packages_of "$1") || return 1
  if [ "$1" = llamafactory ] && ! "$place/bin/python" -c "import torchaudio"; then
    # Its data path imports torchaudio, whose wheels load CUDA libraries: where pip is set up to take a PyTorch for the
    # CPU alone, the one on PyPI goes in its place.
    "$place/bin/pip" uninstall -q -y torch
    PIP_CONFIG_FILE=/dev/null PIP_FIND_LINKS='' "$place/bin/pip" install -q torch==2.13.0 || return 1
  fi
  "$place/bin/pip" install -q --no-deps --editable . || return 1
  "$place/bin/python" -c "import pydantic, pyarrow, numpy, transformers, datasets" || return 1
  touch "$place/.installed"
}

failed="" table=""
for trainer in ${*:-trl litgpt llamafactory axolotl ms-swift automodel}; do
  packages_of "$trainer" >/dev/null || { echo "unknown trainer $trainer"; exit 2; }
  python="build/trainers/$trainer/bin/python"
  if ! install "$trainer" >"$logs/$trainer.install" 2>&1; then
    table="$table\n$trainer\tskipped: does not install here: $(grep -v '^$' "$logs/$trainer.install" | tail -1)"
    continue
  fi
  if "$python" tests/contract/trainers/check.py "$trainer" >"$logs/$trainer.data" 2>&1; then
    data="its data path trains what was selected"
  else
    data="ITS DATA PATH FAILS ($logs/$trainer.data)"
    failed="$failed $trainer"
  fi
  if ! runs_here "$trainer"; then
    run="training skipped: needs a GPU"
  elif "$python" tests/contract/trainers/check.py "$trainer" --run >"$logs/$trainer.run" 2>&1; then
    run="the README's command trains"
  else
    run="THE README'S COMMAND FAILS ($logs/$trainer.run)"
    failed="$failed $trainer"
  fi
  grep -h "^$trainer, " "$logs/$trainer.data" "$logs/$trainer.run" 2>/dev/null
  table="$table\n$trainer\t$data\t$run"
done
printf "%b\n" "$table"
[ -z "$failed" ] || { echo "not verified:$failed"; exit 1; }
