# drg_lib: `make help` lists the targets.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
CODE   := nbs tests benchmarks tools docs setup.py
export DVC_NO_ANALYTICS := 1
export PYTHONWARNINGS := ignore::SyntaxWarning

SHELL  := /bin/bash
.SHELLFLAGS := -eo pipefail -c
# Stage commands find drg and dvc in the environment, activated or not.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup run check test verify house docs lab bench lock format clean check-code check-tests

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## make the virtual environment from requirements.lock

$(READY): requirements.lock settings.ini setup.py
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) not found. Remedy: install Python 3.11, 3.12 or 3.13, or make PYTHON=/path/to/python3."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 13) else "make: Python 3.11 to 3.13 is needed, this is " + sys.version.split()[0] + ". Remedy: make PYTHON=python3.11 ...")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "make: this Python cannot make virtual environments. Remedy: apt-get install python3-venv."; exit 1; }
	@echo "Setting up $(VENV) from requirements.lock: about 250 packages"
	@"$$($(PYTHON) -c 'import sys; print(sys._base_executable)')" -m venv --clear $(VENV)
	@# uv, itself pinned and hashed in the lock, installs the rest in a fifth of pip's time; where it cannot, pip does.
	@awk '/^uv==/ {on = 1} on {print} on && !/\\$$/ {exit}' requirements.lock > $(VENV)/uv.lock
	@python -m pip install --disable-pip-version-check --quiet --require-hashes -r $(VENV)/uv.lock
	@# Compiled once here: where PYTHONDONTWRITEBYTECODE is set, every stage would compile its imports anew, which takes twice the stage's time.
	@VIRTUAL_ENV=$(VENV) uv pip install --compile-bytecode --system-certs --require-hashes -r requirements.lock \
	  || { echo "uv could not install; pip takes two to four minutes"; python -m pip install --disable-pip-version-check --require-hashes --progress-bar off -r requirements.lock; }
	@python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@touch $@

run: $(READY) ## run the pipeline: make run [SOURCE=medicare_csv DATA=file.csv.gz]
	@choices=$$(drg choose $(if $(SOURCE),data_sources=$(SOURCE)) $(if $(DATA),"data=$$DATA")); \
	if dvc status --quiet 2>/dev/null; then \
	  echo "All is up to date: no input, config or notebook has changed. Forecast: data/forecast.parquet; reports: runs/"; \
	else \
	  echo "Choices (params.yaml):"; echo "$$choices"; drg repro; \
	  python -c "from drg_lib.pipeline.choices import print_summary; print_summary()"; \
	fi

test: $(READY) ## run the tests
	@echo "Running the tests: for some minutes nothing shows while the pipeline is built on two sources, then a dot a test"
	@python -m pytest --numprocesses=auto --dist=loadfile --no-loadscope-reorder
	@echo "All tests passed; what was skipped is listed above with its reason. Next: make run"

check: $(READY) ## check code and fast tests in a minute: make check [ROOM=forecasting]
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target --old-file=$(READY) check-code check-tests
	@echo "Checked$(if $(ROOM), $(ROOM)). Next: make test, which builds the pipeline too"

check-code:
	@ruff check $(CODE)
	@ruff format --check $(CODE) || { echo "make: files are not in the project's format. Remedy: make format."; exit 1; }
	@lint-imports --no-logo
	@mypy $(if $(ROOM),--package drg_lib.$(ROOM))
	@python tools/exported.py
	@python tools/house.py --check

check-tests:
	@python -m pytest --quiet -m "not build" $(if $(ROOM),tests/$(ROOM),--numprocesses=2 --dist=worksteal)

format: $(READY) ## bring notebooks, tests and tools into the project's format, and export the modules
	@ruff check --fix --quiet $(CODE) || true
	@ruff format --quiet $(CODE)
	@nbdev_export
	@nbdev_clean

verify: $(READY) ## build two clean clones and compare: make verify [AGAINST=commit] [SOURCE=medicare_csv DATA=file]
	@python tools/verify.py $(if $(AGAINST),--against $(AGAINST)) $(if $(SOURCE),--source $(SOURCE)) $(if $(DATA),--data $(DATA))

house: $(READY) ## measure how the code is arranged
	@python tools/house.py

docs: $(READY) ## build the site into build/site and, at a terminal, show it at http://localhost:8000 [STRICT=1]
	@drg docs $(if $(STRICT),--strict)

lab: $(READY) ## open JupyterLab at its start page, nbs/start.ipynb
	jupyter lab nbs/start.ipynb

bench: $(READY) ## measure speed and memory; prints a table
	@python benchmarks/run.py

lock: $(READY) ## renew requirements.lock from settings.ini
	uv pip compile setup.py --extra dev --universal --fork-strategy fewest --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet --custom-compile-command "make lock" --output-file requirements.lock

clean: ## remove what can be made again; data, results, reports and tracking stay
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache dvc_plots catboost_info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
