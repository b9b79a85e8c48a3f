# Start with `make demo` or `make test`. Both set up .venv on first use.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
UV = $(shell command -v uv 2>/dev/null || echo $(BIN)/uv)
STAMP := $(VENV)/.installed
# The tests start many processes. Without compiled modules each of them would compile all that it imports.
export PYTHONDONTWRITEBYTECODE :=
# A third-party Singer tap and target that the tests run. Their dependencies conflict with speclab's and with each
# other, so each has a separate environment and lock file.
PROGRAMS := tap-rest-api-msdk target-jsonl
SINGER := $(PROGRAMS:%=$(VENV)/singer/%/.installed)
# dlt, for comparison in the benchmarks, also in a separate environment.
DLT := $(VENV)/bench/dlt/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format bench torture screenshots docs lock clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(STAMP) $(SINGER) ## create .venv with the locked dependencies

$(STAMP): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit( \
	  "%s is Python %d.%d, but speclab needs 3.11 or later. Name another one, for example: make demo PYTHON=python3.11" \
	  % (sys.executable, sys.version_info[0], sys.version_info[1]))'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@command -v uv >/dev/null 2>&1 || test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(UV) pip install --quiet --compile-bytecode --require-hashes -r requirements.lock
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(UV) pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(SINGER): $(VENV)/singer/%/.installed: tests/proof/singer/%.txt | $(STAMP)
	@$(UV) venv --quiet --clear --python $(BIN)/python $(@D)
	@VIRTUAL_ENV=$(CURDIR)/$(@D) $(UV) pip install --quiet --compile-bytecode --require-hashes -r $<
	@touch $@

$(DLT): tests/bench/dlt.txt | $(STAMP)
	@$(UV) venv --quiet --clear --python $(BIN)/python $(@D)
	@VIRTUAL_ENV=$(CURDIR)/$(@D) $(UV) pip install --quiet --compile-bytecode --require-hashes -r $<
	@touch $@

demo: $(STAMP) ## open the app on a working integration between two local systems
	@$(BIN)/speclab demo

test: check $(SINGER) ## run all checks and all tests
	$(BIN)/pytest -n 2

check: $(STAMP) ## check format, lint, types and import contracts
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## format the code and apply safe lint fixes
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: $(STAMP) $(SINGER) $(DLT) ## measure the performance budgets
	$(BIN)/python -m tests.bench

torture: $(STAMP) ## kill runs 200 times between faulty systems (KILLS=, SEED=)
	$(BIN)/python -m tests.proof.torture

screenshots: $(STAMP) ## regenerate screenshots/ from the running app
	$(BIN)/python -m tests.screenshots

docs: $(STAMP) ## regenerate docs/reference/
	$(BIN)/python docs/generate.py

LOCK = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	--no-annotate

lock: $(STAMP) ## regenerate all lock files
	$(LOCK) --all-extras --group dev --group proof -o requirements.lock pyproject.toml
	for name in $(PROGRAMS); do \
	  $(LOCK) -o tests/proof/singer/$$name.txt tests/proof/singer/$$name.in || exit 1; \
	done
	$(LOCK) -o tests/bench/dlt.txt tests/bench/dlt.in

clean: ## remove generated files
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis dist
