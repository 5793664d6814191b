# make demo       the whole loop on the tiny Solver: fails, learns, fails less
# make test       every test
# make lint       ruff and mypy
# make benchmark  the engine's figures
# make test-adapters                          every adapter against its real framework, each in an environment of its own under .venvs
# make test-adapters ADAPTERS="openenv skyrl" some of them
#
# Each makes .venv first if need be; afterwards .venv/bin/sentinel is the command.
# make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu takes PyTorch's CPU build instead of the one that the package index has.

PYTHON ?= python3
TORCH_INDEX ?=
PYTEST_FLAGS ?= -n 2
ADAPTERS ?=

BIN := .venv/bin
INSTALLED := .venv/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo test test-adapters lint benchmark install
.DEFAULT_GOAL := test

install: $(INSTALLED)

# torch comes first and alone: resolved together with the rest, it can bring another build of itself and gigabytes of CUDA packages
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit(f"Python 3.11 or newer is needed, found {sys.version.split()[0]}; use make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) install $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$$(grep '^torch==' constraints.txt)"
	$(PIP) install --constraint constraints.txt --editable ".[train,llm,ray,dev]"
	@touch $@

demo: $(INSTALLED)
	$(BIN)/sentinel loop --out runs/demo

test: $(INSTALLED)
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

test-adapters: $(INSTALLED)
	$(BIN)/python tests/adapters/run_all.py $(ADAPTERS)

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

benchmark: $(INSTALLED)
	$(BIN)/python benchmarks/engine.py
