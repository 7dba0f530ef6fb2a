# make demo   play the whole tour on this machine        make test    everything that must hold
# make setup  install what both need                     make bench   what we claim about speed, measured

PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test check bench setup packages clean
.DELETE_ON_ERROR:

demo: setup
	$(BIN)/python tools/demo.py

test: setup check
	$(BIN)/python -m pytest $(TESTS)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy

bench: setup
	$(BIN)/python -m bench

setup: $(VENV)/ready

$(VENV)/ready: pyproject.toml setup.py tools/setup.sh labctl/lab/requirements.py
	PYTHON=$(PYTHON) VENV=$(VENV) sh tools/setup.sh
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
