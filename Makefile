# One word per chore. It needs Python 3.11, Java 17 with Maven (or Docker), and make; the rest it installs into .venv.

PYTHON ?= python3
UV_VERSION := 0.13.9
BIN := .venv/bin
STAMP := .venv/.installed
QUIX := build/quix/.installed
TOOLS := build/tools/.complete
# uv from PATH where there is one, else the one that `setup` puts into .venv.
UV := $(or $(shell command -v uv 2>/dev/null),$(BIN)/uv)

# Python compiles each module once, also where it is told to leave nothing beside the sources: a worker imports a
# thousand of them, which takes two seconds compiled and four otherwise.
export PYTHONPYCACHEPREFIX := $(CURDIR)/build/pycache
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup tools quix run test lint typecheck format bench soak schemas services-up services-down lock clean

help: ## print this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## install everything into .venv

tools: $(TOOLS) ## fetch and build what checks deploy/, where that is possible

quix: $(QUIX) ## install Quix Streams, a contender of the benchmark, into an environment of its own

run: setup ## start everything on this machine; Ctrl-C stops it
	$(BIN)/assessmentstore dev

test: setup tools lint typecheck ## lint, type-check and run every test but the soak
	$(BIN)/pytest -m "not soak" -n 2 --dist loadfile --no-loadscope-reorder

lint: setup ## check style, format and the layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

typecheck: setup ## check the types
	mkdir -p build/typing
	ln -sfn ../../src build/typing/assessmentstore
	$(BIN)/mypy

format: setup ## format the code, and correct what can be corrected
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: setup quix ## measure throughput and latency
	$(BIN)/python -m bench

soak: setup ## run the long tests, and half an hour of chaos with a judge
	$(BIN)/pytest -m soak -o faulthandler_timeout=0
	$(BIN)/assessmentstore chaos run --minutes 6 --seed 1 --seed 2 --seed 3 --seed 4 --seed 5
	$(BIN)/assessmentstore chaos prove

schemas: setup ## write docs/schemas anew from the types
	$(BIN)/python -m tests.harness.schemas

services-up: setup ## start Kafka, Postgres and Redis
	$(BIN)/assessmentstore services up

services-down: setup ## stop the services that services-up or run started
	$(BIN)/assessmentstore services down

lock: $(UV) ## write requirements.lock and bench/quix.lock anew from pyproject.toml
	$(UV) pip compile pyproject.toml --all-extras --generate-hashes --universal --quiet \
		--custom-compile-command "make lock" -o requirements.lock
	$(UV) pip compile --group pyproject.toml:quix --generate-hashes --universal --quiet \
		--custom-compile-command "make lock" -o bench/quix.lock

clean: ## stop the services, and remove all that was installed, built or stored
	if [ -d .assessmentstore/services ] && [ -x $(BIN)/assessmentstore ]; then $(BIN)/assessmentstore services down; fi
	rm -rf .venv build dist *.egg-info .assessmentstore
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml requirements.lock | $(UV)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

$(QUIX): bench/quix.lock | $(UV)
	$(UV) venv --quiet --clear --python $(PYTHON) build/quix
	$(UV) pip install --quiet --python build/quix/bin/python --require-hashes -r bench/quix.lock
	touch $@

$(TOOLS): tests/tools/install.sh tests/tools/go.mod tests/tools/go.sum
	tests/tools/install.sh build/tools

$(BIN)/uv:
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
