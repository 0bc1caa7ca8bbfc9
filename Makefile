# make run · make test · make lint · make demo · make bench: each makes the virtual environment it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test lint demo bench clean

$(VENV)/.run: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.test: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@ $(VENV)/.run

run: $(VENV)/.run
	$(BIN)/agent-ledger serve config/quickstart.yaml --data data

demo: $(VENV)/.run
	$(BIN)/agent-ledger demo

test: $(VENV)/.test lint
	$(BIN)/pytest --numprocesses auto

bench: $(VENV)/.test
	$(BIN)/python -m tests.bench

lint: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
