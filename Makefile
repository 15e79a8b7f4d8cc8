# On a fresh machine, `make demo` and `make test` do everything, including the set-up.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
IMAGE_PYTHON := 3.13
# Tests that wait come first, so that they run in parallel with those that compute.
TESTS := tests/e2e tests/integration tests/unit

# CI runs what failed once more, and names it: its machines stand still for seconds at times. Nobody else's run does.
RERUNS := $(if $(CI),--reruns 1 -rR)

# Tests start hundreds of processes; without bytecode each would compile its imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo run test test-image drills fuzz coverage lint check fix artefacts browser clients image bench bench-freshness bench-accounts lock clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t20

demo: $(or $(wildcard $(READY)),$(VENV)-demo/.ready) ## A gateway in front of a simulated platform: no settings, no credentials, no Redis
	PYTHONPATH=service $(<D)/bin/python -m campaign_gateway demo

run: $(READY) ## The gateway with the settings in gateway.yaml (or CONFIG=...)
	$(BIN)/campaign-gateway serve --config $(or $(CONFIG),gateway.yaml)

test: $(READY) ## Every test: unit, integration, end to end
	$(BIN)/python -m pytest $(TESTS) -n 4 --dist worksteal -q $(RERUNS)

# Simulations are of what is decided, which is the same on any Python.
test-image: $(VENV)-$(IMAGE_PYTHON)/.ready ## Unit and integration tests on the Python of the image
	$(VENV)-$(IMAGE_PYTHON)/bin/python -m pytest tests/integration tests/unit -m 'not simulation' -n 4 --dist worksteal -q $(RERUNS)

drills: $(READY) ## Every fault of the table in tests/README.md, and a soak of twenty minutes (SOAK=60: one); writes the table
	tools/setup-drills
	$(BIN)/python -m tests.drills

fuzz: $(READY) ## Mutated requests to two gateways, with the hot path and without: no answer may differ (N=1000000, SEED=1)
	$(BIN)/python -m tests.fuzz $(if $(N),--inputs $(N)) $(if $(SEED),--seed $(SEED))

coverage: $(READY) ## Every test, with coverage of lines and branches
	$(BIN)/python -m pytest $(TESTS) -n 2 --cov -q

artefacts: $(READY) ## What is not Python: image, chart, compose stack, rules, dashboard
	tools/setup-artefacts
	$(BIN)/python -m pytest tests/artefacts -n 2 -q $(RERUNS)

browser: $(READY) ## The pages at /docs and /console in a real browser
	tools/setup-browser
	$(BIN)/python -m pytest tests/browser -q $(RERUNS)

clients: $(READY) ## Clients generated from the description, and used: Python, TypeScript
	tools/setup-clients
	$(BIN)/python -m pytest tests/clients -n 2 -q -rs $(RERUNS)

image: ## Build the image and run the compose stack with it; root on Debian
	tools/image

lint: $(READY) ## Format, lint, types, imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

check: lint ## Lint and unit tests; run before each commit
	$(BIN)/python -m pytest tests/unit -n 2 -q

fix: $(READY) ## Format, and apply the linter's fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY) ## Hits compared with nginx, HAProxy, Varnish and FastAPI; other reads, listeners, memory, start; a quarter of an hour
	tools/setup-bench
	$(BIN)/python -m tests.bench
	$(BIN)/python -m tests.bench.hits
	$(BIN)/python -m tests.bench.connections
	$(BIN)/python -m tests.bench.reads
	$(BIN)/python -m tests.bench.feed
	$(BIN)/python -m tests.bench.instructions

bench-freshness: $(READY) ## How soon changes are seen, for how many calls; some twenty minutes (QUICK=1: one)
	$(BIN)/python -m tests.bench.freshness $(if $(QUICK),--quick)

bench-accounts: $(READY) ## The cost of many accounts, idle and in use, in memory and with Redis; about six minutes
	$(BIN)/python -m tests.bench.accounts

LOCK = $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-emit-index-url --no-header \
	$(if $(UPGRADE),--upgrade)
lock: $(READY) ## Lock what pyproject.toml asks for (UPGRADE=1: everything at its newest version)
	$(LOCK) --extra jwe pyproject.toml -o requirements.lock
	$(LOCK) --all-extras pyproject.toml -c requirements.lock -o requirements-image.lock
	$(LOCK) --all-extras --group dev pyproject.toml -c requirements-image.lock -o requirements-dev.lock
	$(LOCK) --group build -c requirements-dev.lock -o requirements-build.lock

clean: ## Remove all build results
	rm -rf $(VENV) $(VENV)-demo $(VENV)-$(IMAGE_PYTHON) .venv-bench .venv-clients .venv-floors .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .coverage .coverage.json

$(READY): requirements-dev.lock pyproject.toml tools/setup-venv
	@PYTHON=$(PYTHON) tools/setup-venv $(VENV) $< --no-build-isolation -e .

# What the gateway itself needs: a tenth of what it is developed with.
$(VENV)-demo/.ready: requirements.lock tools/setup-venv
	@PYTHON=$(PYTHON) tools/setup-venv $(@D) $<

$(VENV)-$(IMAGE_PYTHON)/.ready: requirements-dev.lock pyproject.toml tools/setup-venv tools/find-python
	@python=$$(tools/find-python $(IMAGE_PYTHON)) && PYTHON=$$python tools/setup-venv $(VENV)-$(IMAGE_PYTHON) $< --no-build-isolation -e .
