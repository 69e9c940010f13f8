# slabrace: `make demo` and `make test` set up what they need.
PYTHON ?= python3
BIN := .venv/bin
DEMO := build/demo

.PHONY: help venv demo test test-slow dist lint format bench lock map docs site clean

help: ## say what there is to make
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*##/\t/'

venv: .venv/ready ## a virtual environment with the pinned packages

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "slabrace needs Python 3.11 or later; set PYTHON=..."; exit 2; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch .venv/ready

demo: venv ## run shared-dentry on both kernels, compare them, replay one log
	@rm -rf $(DEMO)
	$(BIN)/slabrace run shared-dentry --kernel original --set generations=60 --log $(DEMO)/original.log
	$(BIN)/slabrace run shared-dentry --kernel 5.3 --set generations=60 --log $(DEMO)/5.3.log
	$(BIN)/slabrace compare $(DEMO)/original.log $(DEMO)/5.3.log
	$(BIN)/slabrace replay $(DEMO)/5.3.log

test: venv lint ## lint, types and the default suite of tests
	$(BIN)/python -m pytest -q -n 2 --dist worksteal

test-slow: venv ## the tests that take minutes
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m slow

lint: venv ## ruff, mypy, and the order of the packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache

format: venv ## let ruff lay out and mend the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: venv ## the benchmarks, as ratios, among them speed against an earlier commit (an hour, and a full clone)
	$(BIN)/python -m benchmarks

COMPILE := pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-header \
  --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options

lock: ## pin the packages anew, all of them and those for run time (needs pip-tools, and Python 3.11)
	$(COMPILE) --extra dev --extra plot --extra cluster --extra docs --output-file requirements.lock pyproject.toml
	$(COMPILE) --constraint requirements.lock --output-file requirements-run.lock pyproject.toml

dist: venv ## build the sdist and the wheel, and try the wheel on every Python that is here
	$(BIN)/python -m pytest -q -m slow tests/packaging

map: venv ## write the tables of docs/kernel-map.md anew
	$(BIN)/python -m benchmarks.kernel_map --write

docs: venv ## run what the pages show of a terminal, and write its output there (half an hour)
	$(BIN)/python -m tests.docs.consoles --slow

# --quiet would hide the warnings that --strict makes errors of
site: venv ## the pages as a site in build/site; a link or an anchor that leads nowhere is an error
	$(BIN)/mkdocs build --strict

clean: ## remove what was made
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
