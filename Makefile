# A fresh machine needs Python 3.11 or newer and make; everything else goes into .venv.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
EXTRAS := train,web,dev
DATA ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check fix docs bench audit dist clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## a whole run on drawn images, in a minute
	$(BIN)/assay demo

test: $(INSTALLED) ## the tests; ARGS="tests/evaluate -x" for some of them
	$(BIN)/pytest -q -n auto --dist worksteal $(ARGS)

check: $(INSTALLED) ## lint, format, types and layers, changing nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(INSTALLED) ## ruff's automatic fixes and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.docs ## the docs site, in site/; docs/cli.md from the help pages
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

NEED_MORE := annotators audit check comparison features groups labels outliers plan predict rare scale serve trial web

bench: $(INSTALLED) ## every benchmark that needs nothing but DATA=folder of the data set
	@test -n "$(DATA)" || { echo "make bench: expected DATA=folder of the data set, got nothing" >&2; exit 2; }
	@set -e; for script in $(filter-out $(NEED_MORE:%=benchmarks/%.py),$(wildcard benchmarks/[a-z]*.py)); do \
		echo "$$script"; $(BIN)/python "$$script" --data "$(DATA)"; \
	done

# pip-audit has an environment of its own. PyPI knows torch 2.10, not its build 2.10+cpu.
audit: $(INSTALLED) ## packages with known vulnerabilities; needs a network
	test -x $(VENV)/audit/bin/pip-audit || \
		{ $(BIN)/python -m venv $(VENV)/audit && $(VENV)/audit/bin/python -m pip install --quiet pip-audit; }
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+[a-z0-9.]*$$//' > $(VENV)/audit/packages.txt
	$(VENV)/audit/bin/pip-audit --strict --no-deps --disable-pip --requirement $(VENV)/audit/packages.txt

PYTHONS ?= $(foreach version,3.11 3.12 3.13,$(shell command -v python$(version)))

# Of the tag that is checked out; each Python installs the wheel into an environment of its own, and uses it.
dist: $(INSTALLED) ## wheel and sdist of a release, tried in new environments; PYTHONS="python3.11 python3.13"
	@test "$$(git describe --tags --exact-match 2>&1)" = "v$$($(BIN)/python -c 'import assay; print(assay.__version__)')" || \
		{ echo "make dist: expected the tag v$$($(BIN)/python -c 'import assay; print(assay.__version__)'), got $$(git describe --tags --always)" >&2; exit 2; }
	rm -rf dist && $(BIN)/hatchling build
	@set -e; for python in $(PYTHONS); do \
		place=$$(mktemp -d); echo "$$python: $$($$python --version)"; \
		$$python -m venv $$place/new; \
		$$place/new/bin/python -m pip install --quiet "$$(echo dist/*.whl)[train,web]"; \
		(cd $$place && new/bin/assay --version && new/bin/assay demo --quiet); rm -rf $$place; \
	done

clean: ## remove .venv, the site and caches; runs in out/ stay
	rm -rf $(VENV) site .mypy_cache .pytest_cache .ruff_cache .hypothesis .benchmarks

# The stamp is newer than pyproject.toml once all that it asks for is installed.
$(INSTALLED): pyproject.toml
	@test -n "$(PYTHON)" || { echo "expected Python 3.11 or newer on the path, found none" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "expected Python 3.11 or newer, got $$($(PYTHON) --version); name another: make PYTHON=…" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[$(EXTRAS)]'
	@touch $@

# Only the site needs these, so make test does not wait for them.
$(VENV)/.docs: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	@touch $@
