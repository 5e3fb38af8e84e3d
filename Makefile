# Everything a newcomer needs: `make demo` shows it happen, `make test` proves it works.
# Both set themselves up in .venv on a machine that has Python 3.11 or newer.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check --quiet
# Installed first and pinned: a range would let other packages choose the build.
TORCH ?= torch==2.13.0
LOWEST ?= .venv-lowest
LOWEST_FAST = tests/unit/training/test_train.py tests/unit/models/test_load.py tests/unit/models/test_adapter.py \
  tests/unit/test_config.py
# Processes that run the tests; each file's tests stay in one. 0 runs them in this process.
WORKERS ?= auto
SOURCES = src tests tools benchmarks examples

.PHONY: demo test check format test-lowest test-lowest-fast real-models contract-trainers contract-vllm clean

demo: $(VENV)/.installed
	$(BIN)/tokensieve run pocket

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/architecture_tree.py --check

format: $(VENV)/.installed-dev
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

# The suite on the lowest releases that pyproject.toml allows, in an environment of its own; PyTorch stays the one above.
test-lowest: $(LOWEST)/.installed
	$(LOWEST)/bin/python -m pytest -m "not browser"

# The part that stands on the libraries whose bounds matter: loading, adapters, training, settings.
test-lowest-fast: $(LOWEST)/.installed
	$(LOWEST)/bin/python -m pytest -q -x $(LOWEST_FAST)

# Two small real models (98 and 253 MB) as GGUF files in build/real-models, for the tests and recipes that use them.
real-models: $(VENV)/.installed
	$(BIN)/python tools/real_models.py

# Real trainers in environments of their own; downloads several of them, so it is no part of `make test`.
contract-trainers: $(VENV)/.installed-test
	sh tests/contract/trainers/run.sh

# vLLM itself, its build for CPUs, in an environment of its own (about 2 GB), so it is no part of `make test`.
contract-vllm: $(VENV)/.installed-test
	sh tests/contract/vllm.sh

clean:
	rm -rf $(VENV) $(LOWEST) runs dist

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	@echo "installing into $(VENV) (PyTorch is the large part; a few minutes) …"
	$(PIP) install --upgrade pip
	$(PIP) install "$(TORCH)"
	$(PIP) install --constraint constraints.txt --editable .
	@touch $@

$(LOWEST)/.installed: pyproject.toml tools/lowest_versions.py
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip --disable-pip-version-check --quiet install --upgrade pip packaging
	$(LOWEST)/bin/python -m pip --disable-pip-version-check --quiet install "$(TORCH)"
	$(LOWEST)/bin/python tools/lowest_versions.py > $(LOWEST)/pins.txt
	$(LOWEST)/bin/python -m pip --disable-pip-version-check --quiet install "$(TORCH)" --requirement $(LOWEST)/pins.txt --editable ".[test]"
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) install --constraint constraints.txt --editable ".[test]"
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-test
	$(PIP) install --constraint constraints.txt --editable ".[dev]"
	@touch $@
