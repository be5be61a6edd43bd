# Everything below creates what it needs: a virtual environment with tokpack, every plugin (the native engine is
# compiled) and the development tools. It needs Python 3.11+, make and a C++ compiler.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python -m
PLUGINS := $(sort $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml)))
NATIVE := $(shell find plugins/tokpack-bpe/cpp plugins/tokpack-bpe/src plugins/tokpack-bpe/CMakeLists.txt -name '*.[ch]pp' -o -name '*.txt' 2>/dev/null)
MYPY := MYPYPATH=$(subst $(eval) ,:,$(strip src $(wildcard plugins/*/src))) $(RUN) mypy

.PHONY: help venv demo test check nightly docs format clean

help:
	@echo "make demo     text in, a trained model out: the whole road, offline"
	@echo "make test     all tests but the slow ones"
	@echo "make check    lint, types, import rules, docs"
	@echo "make nightly  the slow proofs as well"
	@echo "make venv     only set up .venv"

venv: $(VENV)/.complete

$(VENV)/.tools: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) pip install --quiet --constraint constraints.txt --editable '.[dev,train,testing]'
	touch $@

$(VENV)/.complete: $(VENV)/.tools $(PLUGINS:%=%/pyproject.toml) $(NATIVE)
	$(RUN) pip install --quiet --no-build-isolation --constraint constraints.txt $(PLUGINS:%=--editable ./%)
	touch $@

demo: venv
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/python examples/demo.py

test: venv
	$(RUN) pytest -n 2 --dist worksteal -m "not nightly and not gpu" --durations=15

nightly: venv
	$(RUN) pytest -m "not gpu" --durations=30

check: venv
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(MYPY) src $(wildcard plugins/*/src)
	$(VENV)/bin/lint-imports
	$(MAKE) --no-print-directory docs

docs: venv
	$(RUN) sphinx -W --keep-going -q -b html docs docs/_build/html

format: venv
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

clean:
	rm -rf $(VENV) demo docs/_build build plugins/*/build .mypy_cache .ruff_cache .pytest_cache .hypothesis
