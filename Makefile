# The commands of the README. `make demo` needs the runtime alone; `make test` installs everything.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e

.PHONY: demo test lint clean

demo: $(VENV)/.runtime-installed
	$(BIN)/fer-edge classify tests/data/portrait.jpg

test: $(VENV)/.test-installed
	$(BIN)/python -m pytest

lint: $(VENV)/.test-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist

$(VENV)/.runtime-installed: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) '.[cpu,headless]'
	touch $@

$(VENV)/.test-installed: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) '.[test]'
	touch $@ $(VENV)/.runtime-installed

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
