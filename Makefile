# One obvious way to everything. `make study` and `make test` need Python ≥ 3.11, make and pip.
PYTHON ?= python3
BIN := .venv/bin
# The environment is made once and made anew only when what it is made from changes.
STAMP := .venv/.made-from-$(shell cat constraints.txt pyproject.toml | cksum | cut -d' ' -f1)
QUICKSTART := results/quickstart

.PHONY: help study test test-slow test-cluster lint docs findings bench clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | column -t -s'|'

study: $(STAMP)  ## run the quickstart study, then print its verdict and the report's path
	$(BIN)/logit-bias run quickstart
	$(BIN)/logit-bias report $(QUICKSTART)

# A file's tests stay in one process, so that what they share is made once.
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

test: $(STAMP)  ## fast tests
	$(PYTEST) -m "not slow"

test-slow: $(STAMP)  ## all tests, half an hour long
	$(PYTEST)

test-cluster: $(STAMP)  ## clusters on simulated machines (as root; packages: docs/cluster.md)
	$(BIN)/python -m pytest -rs tests/cluster

lint: $(STAMP)  ## ruff, mypy (strict) and the import contracts of pyproject.toml
	$(BIN)/ruff check .
	$(BIN)/ruff format --check study trainables analysis tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(STAMP)  ## the documentation as one site, in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir build/site

findings: $(STAMP)  ## compute docs/findings/README.md from the rows beside it
	$(BIN)/python docs/findings/build.py

# These take hours and are run by hand: docs/statistics.md ("Measuring all of it") has the commands.
LONG_BENCHMARKS := $(addprefix benchmarks/,operating_characteristics.py repeatability.py coverage.py)

bench: $(STAMP)  ## benchmarks of minutes; results go to benchmarks/results/
	for script in $(filter-out $(LONG_BENCHMARKS),$(sort $(wildcard benchmarks/*.py))); do \
	  $(BIN)/python $$script || exit 1; done

clean:  ## remove the environment (results stay)
	rm -rf .venv

$(STAMP):
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@
