# Every target works as the first command after a clone: it makes .venv and installs what it needs.
# Another interpreter: make test PYTHON=python3.12. Fewer test processes: make test JOBS=1.

PYTHON ?= python3
JOBS ?= logical
VENV := .venv
BIN := $(VENV)/bin

BASE := $(VENV)/.installed-base
DEV := $(VENV)/.installed-dev
GENERATED := $(VENV)/.generated
PROTOS := $(shell find proto/evflex -name '*.proto' 2>/dev/null)
BUILD_INPUTS := pyproject.toml hatch_build.py

# Kernels are compiled once and kept on disk; here, on two processors, rather than in the first solve.
COMPILE = $(BIN)/python -c 'from evflex.engine import activation, capacity; capacity.warm_up(); activation.warm_up()' & \
	$(BIN)/python -c 'from evflex.engine import charging, dispatch, grid; charging.warm_up(); \
	dispatch.warm_up(); grid.warm_up()'; wait; \
	$(BIN)/python -c 'from evflex.server.warm_up import warm_up; warm_up()'

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: setup demo test lint bench soak proto api clean
.DELETE_ON_ERROR:

setup: $(DEV) $(GENERATED)

demo: $(BASE)
	$(BIN)/evflex demo

test: setup
	$(BIN)/python -m pytest -n $(JOBS)

soak: setup
	EVFLEX_SOAK=1 $(BIN)/python -m pytest -n $(JOBS) --timeout 3600

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code

bench: setup
	$(BIN)/python -m bench

proto: $(DEV)
	$(BIN)/python hatch_build.py
	@touch $(GENERATED)

api: proto
	$(BIN)/python docs/generate_api.py

clean:
	rm -rf $(VENV) proto/gen dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find engine servers clients tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Enough to serve and to run the demo. An environment that has the developers' tools has this too.
$(BASE): $(BUILD_INPUTS) $(PROTOS) | $(BIN)/python
	$(BIN)/pip install --quiet --editable .
	$(COMPILE)
	@touch $@

$(DEV): $(BUILD_INPUTS) | $(BIN)/python
	$(BIN)/pip install --quiet --editable '.[dev,bench,postgres,otel]'
	$(COMPILE)
	@touch $(BASE) $(GENERATED) $@

# After a proto edit only the code is generated anew, without another install.
$(GENERATED): $(PROTOS) hatch_build.py | $(DEV)
	$(BIN)/python hatch_build.py
	@touch $(BASE) $@
