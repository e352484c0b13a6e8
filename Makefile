# The commands of the README. `make demo` needs the runtime alone; `make test` installs everything.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4

.PHONY: demo test test-slow lint bench tables clean

demo: $(VENV)/.runtime-installed
	$(BIN)/fer-edge classify tests/data/portrait.jpg

test: $(VENV)/.test-installed
	$(PYTEST) --dist worksteal -m "not slow"

# What takes long: installs into bare environments, a cluster, a browser, transcripts.
test-slow: $(VENV)/.test-installed web/node_modules/.package-lock.json
	$(PYTEST) --dist loadscope -m slow

lint: $(VENV)/.test-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Variables: DATA=fer2013.zip, VOTES=fer2013new.csv, PEER=another package's model, DETECTOR_MODEL=YuNet's file.
bench: $(VENV)/.test-installed
	$(BIN)/python benchmarks/all.py $(if $(DATA),--data '$(DATA)') \
		$(if $(VOTES),--votes '$(VOTES)') $(if $(PEER),--peer '$(PEER)') \
		$(if $(DETECTOR_MODEL),--detector-model '$(DETECTOR_MODEL)'); \
		status=$$?; $(MAKE) tables && exit $$status

# The documents' pictures and tables, from what was measured and exported.
tables: $(VENV)/.test-installed
	$(BIN)/python benchmarks/pictures.py
	$(BIN)/python benchmarks/tables.py
	$(BIN)/python docs/write_cli.py

clean:
	rm -rf $(VENV) build dist web/node_modules

$(VENV)/.runtime-installed: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) '.[cpu,headless]'
	touch $@

$(VENV)/.test-installed: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) '.[test]'
	touch $@ $(VENV)/.runtime-installed

# What the page of `fer-edge web` runs models with.
web/node_modules/.package-lock.json: web/package.json web/package-lock.json
	npm ci --prefix web --no-audit --no-fund || \
		echo "onnxruntime-web cannot be had from npm: the browser's tests will be skipped" >&2

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
