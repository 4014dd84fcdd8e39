# One obvious command each; `make help` lists them. Linux, GNU make, Python 3.11 or newer.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes

.DEFAULT_GOAL := help
.PHONY: help run check test quick lint format psql soak bench screenshot lock clean
# Each stamp is made under a lock, so that two `make` processes do not build the virtual environment at once.
LOCKED := flock .make.lock

help: ## List the commands.
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 12

run: $(VENV)/embedded.stamp ## Serve demo data on 127.0.0.1:8000, or DATABASE_URL if it is set.
	@if [ -n "$$DATABASE_URL" ]; then exec $(RUN) -m gunicorn wsgi:app; else exec $(RUN) -m tools.demo; fi

check: ## Check the settings and the database before a start, with what .venv has: a line for each check.
	@$(RUN) -m service.check

test: $(VENV)/dev.stamp ## Run the suite on the embedded PostgreSQL; POSTGRES_BIN names another server's binaries.
	@$(PYTEST) $(ARGS)

# Each process has its own server. Tests of one file stay in one process, because they share fixtures.
PYTEST := $(RUN) -m pytest --numprocesses=logical --maxprocesses=4 --dist=loadfile

# What `make quick` leaves out: tests of whole processes, and of whole databases.
SLOW := live page nginx embedded demo logs metrics fuzz openapi standby pgbouncer planted secrets plans tls sums laws psql \
	credits_column readiness reader_role remove hosts rotation check workbook

quick: $(VENV)/dev.stamp ## Run the quickest 530 tests of the suite, in a quarter of a minute.
	@$(PYTEST) -q $(foreach name,$(SLOW),--ignore-glob='*/test_$(name)*.py') $(ARGS)

lint: $(VENV)/dev.stamp ## Check format, style, types and SQL.
	@$(RUN) -m ruff format --check .
	@$(RUN) -m ruff check .
	@$(RUN) -m mypy
	@$(RUN) -m sqlfluff lint --disable-progress-bar sql tests/data tools/bench
	@if command -v npm >/dev/null; then npm exec --yes --ignore-scripts --package=typescript@7.0.2 -- tsc --project jsconfig.json; fi

format: $(VENV)/dev.stamp ## Format the Python files.
	@$(RUN) -m ruff format .
	@$(RUN) -m ruff check --fix .

psql: $(VENV)/embedded.stamp ## Run a query file on DATABASE_URL with the parameters of the service: make psql Q=credits_rollup PERIOD=weekly
	@$(RUN) -m tools.psql $(ARGS)

soak: $(VENV)/dev.stamp ## Run the long tests, which take three to six minutes; with ARGS='--minutes 60' disturb the service for so long.
	@PYTHONPATH=.:tests $(RUN) tools/bench/soak.py $(ARGS)
	@[ -n "$(ARGS)" ] || FUZZ_EXAMPLES=10000 CUTS=1000 $(RUN) -m pytest -s tests/system/test_fuzz.py tests/system/test_live_faults.py tests/system/test_live_overload.py

bench: $(VENV)/dev.stamp ## Measure the time of requests on a million events, or ARGS='--events 10000000'; write the report to docs.
	@PYTHONPATH=.:tests $(RUN) tools/bench/bench.py $(ARGS)

screenshot: $(VENV)/dev.stamp ## Make the picture of the README again. Needs chromium.
	@PYTHONPATH=.:tests $(RUN) tools/bench/screenshot.py

lock: $(VENV)/dev.stamp ## Resolve setup.cfg into requirements/*.lock again.
	@$(LOCK) --all-extras --output-file requirements/dev.lock
	@$(LOCK) --extra embedded --constraint requirements/dev.lock --output-file requirements/embedded.lock
	@$(LOCK) --constraint requirements/dev.lock --output-file requirements/runtime.lock

LOCK := $(RUN) -m uv pip compile setup.cfg --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header --no-emit-index-url --no-emit-find-links --upgrade

clean: ## Remove everything that make created, including the demo database.
	@for lock in .data/*/server/lock .data/*/elsewhere/lock; do \
		[ ! -e "$$lock" ] || flock --nonblock "$$lock" true || \
		{ echo "admin-credits: a demo is running with its data in $${lock%/*}: stop it first" >&2; exit 1; }; done
	@for link in .data/*/elsewhere; do \
		case "$$(readlink "$$link")" in /var/tmp/admin-credits-*) rm -rf "$$(readlink "$$link")";; esac; done
	@rm -rf $(VENV) .data .make.lock .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/python.stamp:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("admin-credits: Python 3.11 or newer is needed; name one with PYTHON=...")'
	@$(LOCKED) $(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/%.stamp: requirements/%.lock $(VENV)/python.stamp
	@echo "Installing requirements/$*.lock ..."
	@$(LOCKED) $(RUN) $(PIP_INSTALL) -r $<
	@touch $@
