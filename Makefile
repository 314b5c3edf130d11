# Everything runs in .venv, made on first use from pinned versions; nothing global is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-crashes lint ui pack clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or 3.12 is needed, this is " + sys.version.split()[0] + "; name another: make PYTHON=python3.11 …") if sys.version_info[:2] not in ((3, 11), (3, 12)) else 0'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 -c constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,pack,s3,postgresql,containers]' -c constraints.txt
	@touch $(READY)

demo: $(READY) ## twelve users in four art styles personalise one model, in about six minutes
	$(BIN)/fedcore run federations/demo.yaml

test: $(READY) lint ## linters, types, import contract, unit tests, a tiny federation end to end
	$(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder

test-slow: $(READY) postgresql ## what needs servers and minutes: pools, sites, PostgreSQL, a full disk, clients that misbehave
	$(BIN)/python -m pytest -m slow --ignore tests/e2e/test_crashes.py

.PHONY: postgresql
postgresql:
	@command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || $(if $(filter 0,$(shell id -u)),,sudo) apt-get install -y --no-install-recommends postgresql

test-crashes: $(READY) ## kill -9 at every place of every stage, databases and blobs lost
	$(BIN)/python -m pytest -m slow -n 2 tests/e2e/test_crashes.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

ui: $(READY) ## MLflow and Prefect pages over what was run here
	@export FEDCORE_HOME=$${FEDCORE_HOME:-$(CURDIR)/runs}; export PREFECT_HOME=$${PREFECT_HOME:-$$FEDCORE_HOME/prefect}; mkdir -p $$FEDCORE_HOME/mlflow; \
	export MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false PREFECT_SERVER_ANALYTICS_ENABLED=false DO_NOT_TRACK=true; \
	$(BIN)/mlflow ui --host 127.0.0.1 --port 5000 --workers 1 --backend-store-uri sqlite:///$$FEDCORE_HOME/mlflow/mlflow.db --artifacts-destination $$FEDCORE_HOME/mlflow/artifacts & mlflow=$$!; \
	$(BIN)/prefect server start --host 127.0.0.1 --port 4200 & prefect=$$!; \
	trap 'kill $$mlflow $$prefect 2>/dev/null; wait; exit 0' INT TERM; \
	echo "MLflow http://127.0.0.1:5000   Prefect http://127.0.0.1:4200   (Ctrl-C ends both)"; wait

.PHONY: screenshots
screenshots: $(READY) ## the docs' pictures of both pages, while `fedcore up` shows a finished demo; needs Chromium
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]' -c constraints.txt
	$(BIN)/python docs/screenshots.py

pack: $(READY) ## rebuild the emoji pack and the demo's client files from their sources
	$(BIN)/python -m data.emoji.build
	$(BIN)/python -m data.emoji.clients

clean: ## remove the virtual environment and all runs
	rm -rf $(VENV) runs
