# Every target sets up its own virtual environment first: Python 3.11+ and the package registry are all that is needed.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check fix bench

$(READY): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@

demo: $(READY)  ## the main job: index pydocs, search, evaluate, 32 searches at once
	$(BIN)/elastic-ir demo

test: $(READY)  ## the test suite
	$(BIN)/python -m pytest

check: $(READY)  ## format, lint, types, import contract
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(READY)  ## format and repair what can be repaired
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)  ## the figures of the README, on the collections in $$ELASTIC_IR_DATA
	$(BIN)/python benchmarks/ranker.py
	$(BIN)/python benchmarks/quality.py
