# make search [ARGS="..."]   fit the default network to this CPU; make test [JOBS=2]; make lint
# make toolchain             the Debian packages that microcontrollers need
# TORCH="torch==2.13.0 --index-url ..." installs another build than the CPU one of constraints.txt
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH ?= -c constraints.txt torch
ARGS ?=
# Processes that tests run in, one thread each
JOBS ?= 2

MCU_PACKAGES := gcc-arm-none-eabi qemu-system-arm gcc-riscv64-unknown-elf qemu-system-misc verilator gcc g++ make

.PHONY: search test test-slow lint format clean toolchain
search: $(VENV)/.installed
	$(BIN)/python scripts/run_search.py $(ARGS)

test: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

test-slow: $(VENV)/.installed
	$(BIN)/python -m pytest -m slow $(ARGS)

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.installed: setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Lutier needs Python 3.11 or newer")'
	@command -v cc >/dev/null || { echo "a C compiler is needed: apt-get install gcc" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet $(TORCH)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

toolchain:
	@apt-get update -qq && apt-get install --yes --no-install-recommends $(MCU_PACKAGES) || \
		{ echo "as root: apt-get install --no-install-recommends $(MCU_PACKAGES)" >&2; exit 1; }

clean:
	rm -rf $(VENV) build dist *.egg-info
