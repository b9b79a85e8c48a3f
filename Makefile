# The two commands a newcomer needs: `make demo` and `make test`. Everything is set up in .venv on first use.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
UV = $(shell command -v uv 2>/dev/null || echo $(BIN)/uv)
STAMP := $(VENV)/.installed
# A Singer tap and a target of others, which the tests run. Their dependencies and ours exclude each other, and no two
# of them go together, so each has an environment and a lock of its own.
PROGRAMS := tap-rest-api-msdk target-jsonl
SINGER := $(PROGRAMS:%=$(VENV)/singer/%/.installed)
# What benchmarks stand beside, in an environment of its own, too.
DLT := $(VENV)/bench/dlt/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format bench torture screenshots docs lock clean

help: ## what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(STAMP) $(SINGER) ## the virtual environment with the locked dependencies

$(STAMP): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit( \
	  "%s is Python %d.%d, and 3.11 or later is needed; name one, such as: make demo PYTHON=python3.11" \
	  % (sys.executable, sys.version_info[0], sys.version_info[1]))'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@command -v uv >/dev/null 2>&1 || test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(UV) pip install --quiet --require-hashes -r requirements.lock
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(UV) pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(SINGER): $(VENV)/singer/%/.installed: tests/proof/singer/%.txt | $(STAMP)
	@$(UV) venv --quiet --clear --python $(BIN)/python $(@D)
	@VIRTUAL_ENV=$(CURDIR)/$(@D) $(UV) pip install --quiet --require-hashes -r $<
	@touch $@

$(DLT): tests/bench/dlt.txt | $(STAMP)
	@$(UV) venv --quiet --clear --python $(BIN)/python $(@D)
	@VIRTUAL_ENV=$(CURDIR)/$(@D) $(UV) pip install --quiet --require-hashes -r $<
	@touch $@

demo: $(STAMP) ## two local systems, a working integration and its run, in the app
	@$(BIN)/speclab demo

test: check $(SINGER) ## everything: format, lint, types, import contracts, tests
	$(BIN)/pytest -n 2

check: $(STAMP) ## format, lint, types, import contracts
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## write the format and the safe fixes
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: $(STAMP) $(SINGER) $(DLT) ## the budgets, measured side by side
	$(BIN)/python -m tests.bench

torture: $(STAMP) ## runs killed 200 times between systems that misbehave (KILLS=, SEED=)
	$(BIN)/python -m tests.proof.torture

screenshots: $(STAMP) ## screenshots/ anew, from the running app
	$(BIN)/python -m tests.screenshots

docs: $(STAMP) ## the generated reference pages
	$(BIN)/python docs/generate.py

LOCK = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	--no-annotate

lock: $(STAMP) ## requirements.lock anew from pyproject.toml, and those of the Singer programs and dlt
	$(LOCK) --all-extras --group dev --group proof -o requirements.lock pyproject.toml
	for name in $(PROGRAMS); do \
	  $(LOCK) -o tests/proof/singer/$$name.txt tests/proof/singer/$$name.in || exit 1; \
	done
	$(LOCK) -o tests/bench/dlt.txt tests/bench/dlt.in

clean: ## remove what was made here
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis dist
