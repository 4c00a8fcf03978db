# Needs Python 3.11 or newer. Everything else is installed into .venv.

PYTHON ?= python3
PORT ?= 8000
BIN := .venv/bin

.PHONY: help demo test faults lint licences audit bench format clean

help:  ## List these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/.installed .env  ## Serve a demo catalogue on 127.0.0.1:8000 (PORT=9000 for another port)
	PORT=$(PORT) $(BIN)/python manage.py demo

# Three processes fill the waiting of browser and worker tests on two cores.
test: .venv/.installed-dev  ## Run the tests, except the fault tests
	$(BIN)/python -m pytest -m "not faults" -n 3 --dist loadfile --no-loadscope-reorder

faults: .venv/.installed-dev  ## Run the fault tests, which break and attack a running program for minutes
	$(BIN)/python -m pytest -m faults -n 2 --dist worksteal

lint: .venv/.installed-dev  ## Check style, types, security (bandit), workflows and containers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	DJANGO_DEBUG=1 $(BIN)/mypy core gpu products matching catalogmatch tests benchmarks
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive core gpu products matching catalogmatch manage.py
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec compose*.yaml
	$(BIN)/hadolint Containerfile
	for script in deploy/*.sh; do sh -n $$script || exit 1; done

licences: .venv/.installed-dev  ## List the licences of all needed packages, fail if one is not allowed
	$(BIN)/python -m tests.licences

audit: .venv/.installed-dev  ## Check licences, and look for known vulnerabilities if there is a network
	$(BIN)/python -m tests.audit

format: .venv/.installed-dev  ## Fix the style of the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/.installed-bench  ## Measure speed and cost, beside alternatives
	$(BIN)/python -m benchmarks

clean:  ## Remove what make installed, and keep all data
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.installed: requirements.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

.venv/.installed-dev: requirements.txt requirements-dev.txt requirements-postgres.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	touch $@

.venv/.installed-bench: requirements-bench.txt .venv/.installed-dev
	$(BIN)/python -m pip install --quiet -r requirements-bench.txt
	touch $@

# Each installation gets its own secret. The file is never committed.
.env: | .venv/bin/python
	$(BIN)/python -c "import secrets; print('DJANGO_SECRET_KEY=' + secrets.token_urlsafe(50))" > $@
	chmod 600 $@
