# obdbench. `make bench` and `make test` install what they need; `make help` lists all targets.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS ?= ray,minari,plots,dev
RESULTS ?= results
WORKERS ?= 2
MODULE ?= obdbench/experiments/fingerprint.py
TESTS ?= tests/experiments/test_fingerprint.py
export OMP_NUM_THREADS ?= 1

FIND_EXECUTOR := "import importlib.util as u; print('ray' if u.find_spec('ray') else 'local')"

.DEFAULT_GOAL := help
.PHONY: help install bench bench-paper publish test test-slow lint typecheck format leaderboard \
	benchmark coverage reliability mutation audit test-wheel docs docs-serve clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "obdbench needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing obdbench into $(VENV) (once, a few minutes) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

install: $(STAMP)  ## create .venv and install everything the other targets need

# a failed trial is a row of the leaderboard, and the target fails
bench: $(STAMP)  ## run the quick suite on the embedded data; everything is written to results/
	$(BIN)/obdbench run quick --retry-failed --workers $(WORKERS) --out $(RESULTS) \
		--executor $(or $(EXECUTOR),$(shell $(BIN)/python -c $(FIND_EXECUTOR))); \
	code=$$?; test $$code -le 1 || exit $$code; \
	$(BIN)/obdbench leaderboard --out $(RESULTS) --to $(RESULTS)/leaderboards --html && exit $$code

publish: $(STAMP)  ## copy results of the quick suite to leaderboards/ and rewrite its pages
	$(BIN)/obdbench leaderboard --publish $(RESULTS)/quick

bench-paper: $(STAMP)  ## run the papers' settings (days on a CPU; can be resumed)
	$(BIN)/obdbench run paper --retry-failed --out $(RESULTS)

test: $(STAMP)  ## run the tests (offline, a few minutes)
	$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

test-slow: $(STAMP)  ## run only the slow tests
	$(BIN)/python -m pytest -m "slow and not network and not gpu" $(ARGS)

lint: $(STAMP)  ## ruff
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

typecheck: $(STAMP)  ## mypy, strict
	$(BIN)/mypy

format: $(STAMP)  ## apply the automatic fixes of ruff
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

leaderboard: $(STAMP)  ## rewrite all leaderboards from the committed results
	$(BIN)/obdbench leaderboard

benchmark: $(STAMP)  ## measure speed on an otherwise idle machine
	OMP_NUM_THREADS= $(BIN)/python -m pytest tests/benchmarks -m benchmark -p no:xdist \
		--benchmark-json=.benchmarks/latest.json $(ARGS)
	$(BIN)/python tools/benchmark_table.py .benchmarks/latest.json

reliability: $(STAMP)  ## run the fault tests and write docs/reliability.md (about an hour)
	$(if $(ARGS),,rm -f docs/reliability/results.json)
	-OBDBENCH_FUZZ=$(or $(OBDBENCH_FUZZ),2) $(BIN)/python -m pytest -p no:xdist -m reliability --reliability docs/reliability/results.json $(ARGS)
	$(BIN)/python tools/reliability_page.py

coverage: $(STAMP)  ## measure line coverage of the tests
	$(BIN)/python -m pytest -n $(WORKERS) --cov --cov-report=term-missing:skip-covered

mutation: $(STAMP)  ## mutate MODULE and run TESTS on every mutant; lists the mutants that survive
	@printf '%s\n' '[mutmut]' 'source_paths=obdbench/' 'only_mutate=$(MODULE)' \
		'pytest_add_cli_args_test_selection=$(TESTS)' 'pytest_add_cli_args=--no-header' \
		'also_copy=' '    baselines/' '    docs/' '    examples/' '    README.md' > setup.cfg
	rm -rf mutants
	-$(BIN)/mutmut run --max-children $(WORKERS) > mutmut.log 2>&1
	@tail -n 1 mutmut.log
	@$(BIN)/mutmut results
	@rm -f setup.cfg

test-wheel: $(STAMP)  ## build the wheel and test it in an empty environment (needs a package index)
	$(BIN)/python -m pytest -p no:xdist tests/packaging -m "not benchmark" $(ARGS)

audit: $(STAMP)  ## list dependencies and licenses; check the pins for known vulnerabilities
	$(BIN)/python tools/dependencies.py
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pip-audit
	$(BIN)/python -m pip_audit -r constraints.txt --no-deps --disable-pip

docs: $(STAMP)  ## build the documentation site in build/site; warnings are errors
	@$(BIN)/python -c 'import mkdocs' 2>/dev/null || \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	$(BIN)/python -m mkdocs build --strict --quiet

docs-serve: docs  ## serve the documentation site on this machine and rebuild it on changes
	$(BIN)/python -m mkdocs serve

clean:  ## remove caches and build products; results, data and .venv stay
	rm -rf mutants mutmut.log .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks dist build/site *.egg-info htmlcov .coverage*
