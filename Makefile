# `make demo` and `make test` are for a fresh clone; both make .venv first. They need Python >= 3.11 and a package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
export TOKENIZERS_PARALLELISM = false
unexport PYTHONDONTWRITEBYTECODE  # without its bytecode, pytest rewrites all tests in every process

.PHONY: demo test test-all lint docs versions audit licences clean

demo: $(VENV)/.demo
	@echo "The demo itself: 3 to 9 minutes on 2 CPU cores. Ctrl-C stops it; rerun the command to resume."
	@$(BIN)/cotbal demo

# One thread per process: two test processes and those that they start would otherwise wait for each
# other's threads. tests/helpers/sharing.py says which process gets a test.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --no-loadscope-reorder

# What guards a change: 4 minutes on 2 fast cores, 11 on slow ones.
test: $(VENV)/.test lint
	$(PYTEST) -m "not extended"

# The rest: further model families, the matrix of sharded runs, a real Slurm, losses of Ray's nodes.
test-all: $(VENV)/.test
	$(PYTEST) -m extended

lint: $(VENV)/.test
	$(BIN)/ruff check src tests benchmarks examples docs
	$(BIN)/ruff format --check src tests benchmarks examples docs
	MYPY_NUM_WORKERS=2 $(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# The documentation site, in site/; a broken link or an undocumented page is an error.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Dependencies of the base and of small extras at their oldest and newest versions, each in a clean environment.
versions:
	PYTHON=$(PYTHON) bash docs/tools/check_versions.sh oldest judge stamps llava
	PYTHON=$(PYTHON) bash docs/tools/check_versions.sh newest judge stamps llava

# Known vulnerabilities of the pinned versions.
audit:
	PYTHON=$(PYTHON) bash docs/tools/audit.sh

# The page of licences; rerun it after a change of constraints.txt.
licences: $(VENV)/.test
	$(BIN)/python docs/tools/licences.py

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "cotbal needs Python 3.11 or newer; found $$($(PYTHON) --version). Try: make PYTHON=python3.12 demo"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing PyTorch, transformers and the drawings into $(VENV): 2 to 5 minutes the first time, about 1.5 GB on disk."
	$(PIP) -e ".[train,pocket]"
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing the test tools into $(VENV): 2 to 5 minutes the first time."
	$(PIP) -e ".[train,pocket,test]"
	@touch $@ $(VENV)/.demo

$(VENV)/.docs: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e ".[docs]"
	@touch $@

clean:
	rm -rf $(VENV) runs site dist
