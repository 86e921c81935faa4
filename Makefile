# Everything sets itself up: Python 3.11+ (with venv) and make are all that is needed.
# `make` lists what there is. Pass more to pytest with ARGS, for instance: make test ARGS="-k timers -x"

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test check lint types layers format crash sim chaos soak mutants bench lock clean

# The newest interpreter that really works: a name on the PATH may be a shim that only prints an error.
PYTHON = $(shell for python in python3.13 python3.12 python3.11 python3 python; do \
	$$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& { echo $$python; break; }; done)
JOBS ?= auto
ARGS ?=
SECONDS ?= 60
HOURS ?= 1
BIN := .venv/bin
READY := .venv/ready
PIP = $(BIN)/python -m pip --disable-pip-version-check --quiet install

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(READY): requirements.lock pyproject.toml
	@python="$(PYTHON)"; \
	if [ -z "$$python" ]; then echo "aob needs Python 3.11 or later with venv (Debian: apt install python3-venv)" >&2; exit 1; fi; \
	echo "setting up .venv with $$($$python --version) (once; about a minute)"; \
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $$python -m venv --clear .venv
	@$(PIP) --require-hashes --requirement requirements.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY) ## run the main job: a few hundred messages, a kill half-way, a restart, a table
	@$(BIN)/python -m examples.support.demo

test: $(READY) ## run the tests; the end says what was left out, and how to include it
	@$(BIN)/python -m pytest -n $(JOBS) $(ARGS)

check: lint types layers test ## lint, types, layers, test

lint: $(READY) ## ruff: rules and format
	@$(BIN)/ruff check --quiet . && $(BIN)/ruff format --quiet --check . && echo "lint: good"

types: $(READY) ## pyright, strict, on src/
	@$(BIN)/basedpyright --pythonpath $(BIN)/python

layers: $(READY) ## import-linter: who may import whom
	@$(BIN)/lint-imports --no-logo

format: $(READY) ## mend what ruff can mend
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format --quiet .

crash: $(READY) ## the whole crash suite: SIGKILL at every write point (minutes)
	@AOB_TEST_EXHAUSTIVE=1 $(BIN)/python -m pytest -n $(JOBS) -m crash $(ARGS)

sim: $(READY) ## simulate worlds for SECONDS=60; SEED=… lives through a failing one again and makes it smaller
	@$(BIN)/python -W ignore -m aob.testing.simulation $(if $(SEED),--seed $(SEED),--seconds $(SECONDS)) $(ARGS)

chaos: SECONDS = 300
chaos: $(READY) ## workers on a real Postgres and every fault for SECONDS=300, from SEED=…
	@$(BIN)/python -m tests.chaos --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(ARGS)

soak: $(READY) ## the same for HOURS=1 at a gentle pace: figures every minute, and what has grown
	@$(BIN)/python -m tests.chaos --soak --seconds "$$(echo $(HOURS) | awk '{ print $$1 * 3600 }')" $(if $(SEED),--seed $(SEED)) $(ARGS)

mutants: $(READY) ## plant a bug for each invariant, and see that its test finds it (minutes)
	@AOB_TEST_MUTANTS=1 $(BIN)/python -m pytest -n $(JOBS) \
		tests/mutants tests/conformance/test_*_mutants.py tests/simulation/test_mutants.py $(ARGS)

bench: $(READY) ## measure speed on this machine (minutes)
	@$(BIN)/python -m bench $(ARGS)

lock: ## resolve requirements.lock anew (needs uv)
	@uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes --all-extras \
		--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
		--output-file requirements.lock pyproject.toml

clean: ## remove the set-up and all caches
	@rm -rf .venv .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
