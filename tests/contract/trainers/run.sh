#!/bin/sh
# Check exports inside the trainers themselves, each in an environment of its own under build/trainers.
# Usage: sh tests/contract/trainers/run.sh [TRAINER...]; no part of the quick tests: it installs several GB.
set -u
cd "$(dirname "$0")/../../.."
failed=""
for trainer in ${*:-litgpt llamafactory axolotl ms-swift automodel}; do
  case $trainer in
    litgpt) packages="litgpt==0.5.13 datasets" ;;
    llamafactory) packages="llamafactory==0.9.5" ;;
    axolotl) packages="axolotl==0.19.0" ;;
    ms-swift) packages="ms-swift==4.6.0" ;;
    automodel) packages="nemo-automodel==0.7.0" ;;
    *) echo "unknown trainer $trainer"; exit 2 ;;
  esac
  place="build/trainers/$trainer"
  if [ ! -x "$place/bin/python" ]; then
    python3 -m venv "$place" && "$place/bin/pip" install -q torch==2.13.0 \
      && "$place/bin/pip" install -q $packages pydantic pyarrow numpy transformers
  fi || { echo "$trainer: does not install here"; failed="$failed $trainer"; continue; }
  "$place/bin/python" tests/contract/trainers/check.py "$trainer" || failed="$failed $trainer"
done
[ -z "$failed" ] || { echo "not verified:$failed"; exit 1; }
