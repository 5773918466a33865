# Everything runs from a virtual environment made here from constraints with hashes.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint types rooms up lock clean bench-path

demo: $(STAMP) ## everything set up, and the main job shown on real parts
	$(BIN)/python -m schemaseal.devstack.demo

test: $(STAMP) ## unit, contract and integration tests on the real stack
	$(BIN)/python -m pytest tests

up: $(STAMP) ## the local stack in the foreground; Ctrl-C ends it
	$(BIN)/schemaseal up

bench-path: $(STAMP) ## a low-risk change beside the registry called directly
	$(BIN)/python -m tests.bench.path

lint: $(STAMP)
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

rooms: $(STAMP)
	$(BIN)/lint-imports

$(STAMP): requirements/dev.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(STAMP)

lock: ## write requirements/dev.txt anew (needs uv on the path)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--extra devstack --extra dev pyproject.toml -o requirements/dev.txt

clean:
	rm -rf $(VENV) .data
