# Needs make and Python >= 3.11; everything else goes into .venv on first use.

# The first interpreter that is new enough and can make a virtual environment; or: make test PYTHON=/path/to/python
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3; do \
	if $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	then echo $$python; break; fi; done)
BIN := .venv/bin
INSTALLED := .venv/.installed
# Two processes: one for the tests that start Ray, one for the others.
SIDE_BY_SIDE := --numprocesses 2 --dist loadgroup

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow check format lock clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/' | expand -t 12

demo: $(INSTALLED)  ## compare algorithms on a small task, then search; results/
	$(BIN)/fedrevive compare demo --algorithms fedbuff,fedbuff:server.lr=0.1,afl_dw,fedrevive --controls fedrevive:pool=noise
	$(BIN)/fedrevive tune digits --trials 4 --seeds 0

test: $(INSTALLED)  ## the tests that take seconds
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not slow"

test-slow: $(INSTALLED)  ## the tests that take minutes
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m slow

check: $(INSTALLED)  ## formatting, lint, types, import layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED)  ## rewrite the sources in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# All versions, for every Python and platform we support. Nothing that is younger than a week: a hijacked release is
# usually noticed by then. No hashes: pip takes them only when the project itself has one, which an editable one has not.
lock: $(INSTALLED)  ## renew constraints.txt, the versions that make installs
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet pyproject.toml --extra dev --universal --python-version 3.11 --upgrade \
		--exclude-newer '7 days' --custom-compile-command 'make lock' --output-file constraints.txt

clean:  ## remove the environment and every cache; results stay
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find platform tuning clusters tests -type d -name __pycache__ -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: no Python >= 3.11 with venv found; install one or give PYTHON=..." >&2; exit 2; }
	@echo "Installing into .venv with $(PYTHON): PyTorch and Ray are large, the first time takes some minutes."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@
