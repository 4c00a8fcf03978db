# What a newcomer and a developer type. Needs Python 3.11 or newer; everything else goes into .venv.

PYTHON ?= python3
PORT ?= 8000
BIN := .venv/bin

.PHONY: demo test faults lint bench format clean

demo: .venv/.installed .env  ## Serve a demo catalogue on 127.0.0.1:$(PORT)
	PORT=$(PORT) $(BIN)/python manage.py demo

test: .venv/.installed-dev  ## Run the test suite, without the long tests of faults
	$(BIN)/python -m pytest -m "not faults" -n 2 --dist loadfile

faults: .venv/.installed-dev  ## Kill, stop, starve and attack a running program: what must hold when things break
	$(BIN)/python -m pytest -m faults -n 2 --dist worksteal

lint: .venv/.installed-dev  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	DJANGO_DEBUG=1 $(BIN)/mypy gpu products matching catalogmatch tests benchmarks

format: .venv/.installed-dev  ## Put the code into its style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/.installed-bench  ## Measure what it costs, against what a user would pick instead
	$(BIN)/python -m benchmarks

clean:  ## Remove what make created, but no data
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.installed: requirements.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

.venv/.installed-dev: requirements.txt requirements-dev.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	touch $@

.venv/.installed-bench: requirements-bench.txt .venv/.installed-dev
	$(BIN)/python -m pip install --quiet -r requirements-bench.txt
	touch $@

# A secret of its own for every installation; the file is never committed.
.env: | .venv/bin/python
	$(BIN)/python -c "import secrets; print('DJANGO_SECRET_KEY=' + secrets.token_urlsafe(50))" > $@
	chmod 600 $@
