# Everything a newcomer needs: `make demo` shows it happen, `make test` proves it works.
# Both set themselves up in .venv on a machine that has Python 3.11 or newer.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check --quiet
# Installed first and pinned: a range would let other packages choose the build.
TORCH ?= torch==2.13.0
SOURCES = src tests tools benchmarks examples

.PHONY: demo test check format contract-trainers clean

demo: $(VENV)/.installed
	$(BIN)/tokensieve run pocket

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/architecture_tree.py --check

format: $(VENV)/.installed-dev
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

# Real trainers in environments of their own; downloads several of them, so it is no part of `make test`.
contract-trainers: $(VENV)/.installed-test
	sh tests/contract/trainers/run.sh

clean:
	rm -rf $(VENV) runs dist

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	@echo "installing into $(VENV) (PyTorch is the large part; a few minutes) …"
	$(PIP) install --upgrade pip
	$(PIP) install "$(TORCH)"
	$(PIP) install --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) install --constraint constraints.txt --editable ".[test]"
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-test
	$(PIP) install --constraint constraints.txt --editable ".[dev]"
	@touch $@
