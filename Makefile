# Every task of this repository; CI calls the same targets.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# Where it is set (many images do), every process would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE
PYTHON := .venv/bin/python
ARGS ?=
EXTRAS ?=

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' Makefile

setup:  ## Make .venv with the development tools, and jars/
	@tools/setup.sh dev

# Half of the time tests wait for daemons and timers, so two processes share the work by files.
test: setup  ## Run all tests; ARGS="-k word" narrows, ARGS="-n 0" takes one process
	@source tools/prerequisites.sh && check_java
	@tools/setup.sh airflow
	@$(PYTHON) -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

check: setup  ## Lint, formatting and types
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

format: setup  ## Format and repair what ruff can
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

bench:  ## Measure side by side; ARGS="[scale|runtimes|preprocessing] and its options"
	@tools/setup.sh run bench
	@$(PYTHON) -m benchmarks $(ARGS)

package: setup  ## Build what a cluster needs into dist/; EXTRAS=gpu for a GPU cluster
	@tools/package.sh $(EXTRAS)

lock: setup  ## Derive constraints.txt from setup.py
	@tools/lock.sh

clean:  ## Remove what can be made again, except environments and jars/
	rm -rf build dist .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -not -path './.venv*/*' -prune -exec rm -rf {} +

.PHONY: help setup test check format bench package lock clean
