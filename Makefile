# gridctl's tasks; `make` lists them. Each makes .venv on first use.
PYTHON ?= python3
BIN := .venv/bin
# Errors only: warnings of pip and setuptools are about the machine's set-up, not about gridctl.
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check
# A worker per core, and each computes on one thread: threads of several workers get in the way.
PYTEST := pytest -n logical --maxprocesses 8 --dist worksteal
export HF_HUB_DISABLE_TELEMETRY = 1

.PHONY: help demo test test-all check coverage mutants bench gpu-check clean

help: ## list the tasks
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.venv/.installed: pyproject.toml .ci/constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) --upgrade "pip>=25.1"
	$(PIP) -c .ci/constraints.txt -e . --group dev
	$(PIP) --no-deps --upgrade --target .venv/vlm --group vlm
	@touch $@

demo: .venv/.installed ## teach the built-in model a new motion, and see it before and after, in demo/
	PATH="$(CURDIR)/$(BIN):$$PATH" sh examples/demo.sh demo

check: .venv/.installed ## ruff and strict mypy
	$(BIN)/ruff check gridctl tests examples
	$(BIN)/ruff format --check gridctl tests examples
	$(BIN)/mypy

test: check ## the checks and the quick tests: about seven minutes on two cores
	OMP_NUM_THREADS=1 $(BIN)/python -m $(PYTEST)

test-all: test ## the slow tests too, one after the other: Ray and accelerate use the whole machine
	$(PIP) -c .ci/constraints.txt --group slow
	$(BIN)/python -m pytest -m slow

coverage: .venv/.installed ## the share of lines that the quick tests run, by file
	$(BIN)/coverage erase
	OMP_NUM_THREADS=1 $(BIN)/coverage run -m $(PYTEST)
	$(BIN)/coverage combine -q
	$(BIN)/coverage report --skip-covered --sort=cover --fail-under=92

mutants: .venv/.installed ## faults planted in ROOM (such as diffusion or train/loss), and which its tests notice
	OMP_NUM_THREADS=1 $(BIN)/python tests/mutants.py $(ROOM)

bench: .venv/.installed ## the benchmarks that need no GPU
	$(BIN)/gridctl bench pack
	$(BIN)/gridctl bench caption
	$(BIN)/gridctl bench startup
	$(BIN)/gridctl bench train
	$(BIN)/gridctl bench generate --against wan,ltx
	$(BIN)/gridctl bench memory

gpu-check: .venv/.installed ## every memory preset on this machine's GPU: 8 minutes, 60 GB of RAM disk
	$(BIN)/gridctl bench gpu -o build/gpu-check

clean: ## remove the environment and the demo
	rm -rf .venv demo build *.egg-info
