# Every target sets itself up: only python3 (3.11 or newer) and make are needed. Nothing is installed
# twice: each environment carries a stamp that is older than its lock file only when the lock changed.

PYTHON ?= python3
BIN := $(CURDIR)/.venv/bin
export PATH := $(BIN):$(PATH)
PYTEST_ARGS ?=
SEEDS ?= 10000

.PHONY: run test check simulate mutants coverage synth lock clean setup

run: setup            ## the whole relay on this machine, until Ctrl-C
	@empathctl local up

test: setup
	@pytest -n auto --maxprocesses=4 --dist loadgroup $(PYTEST_ARGS)

check: .venv/.stamp
	ruff check .
	ruff format --check .
	mypy
	lint-imports --no-cache

simulate: .venv/.stamp   ## SEEDS runs of the whole relay under faults, on every core
	@python -m empath.testing.simulation --seeds $(SEEDS)

mutants: .venv/.stamp    ## a table of planted bugs and the seeds that find them
	@python -m tests.simulation.table

coverage: .venv/.stamp   ## branches of domain and pipeline that tests and simulation reach
	@pytest --cov --cov-branch --cov-report=term-missing:skip-covered tests/unit tests/scenarios tests/simulation

synth: setup          ## the templates of every stack, in cdk.out, without credentials
	cdk synth --quiet

setup: .venv/.stamp .venv-aws/.stamp infra/node_modules/.stamp

.venv/.stamp: dev.lock bootstrap.lock pyproject.toml
	$(PYTHON) -m venv .venv
	pip install --quiet --disable-pip-version-check --require-hashes -r bootstrap.lock
	uv pip sync --quiet --python $(BIN)/python --require-hashes dev.lock
	uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

# The embedded AWS pins its own botocore, so it lives in an environment of its own.
.venv-aws/.stamp: embedded-aws.lock .venv/.stamp
	uv venv --quiet --clear --python $(BIN)/python .venv-aws
	uv pip sync --quiet --python .venv-aws/bin/python --require-hashes embedded-aws.lock
	touch $@

infra/node_modules/.stamp: infra/package-lock.json .venv/.stamp
	npm ci --prefix infra --no-audit --no-fund --loglevel=error
	ln -sf ../../infra/node_modules/.bin/cdk $(BIN)/cdk
	touch $@

COMPILE = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate

lock: .venv/.stamp    ## resolve every dependency anew
	$(COMPILE) --upgrade pyproject.toml --extra control --group dev --output-file dev.lock
	$(COMPILE) --upgrade --group bootstrap --constraints dev.lock --output-file bootstrap.lock
	$(COMPILE) --upgrade --group embedded-aws --output-file embedded-aws.lock
	$(COMPILE) --upgrade --group lambda --constraints dev.lock --output-file layers/dependencies/lambda.lock
	$(COMPILE) --upgrade pyproject.toml --constraints dev.lock --output-file functions/ingress/ingress.lock
	npm install --prefix infra --package-lock-only --omit-lockfile-registry-resolved --no-audit --no-fund

clean:                ## forget environments, caches and the local stack's state
	rm -rf .venv .venv-aws infra/node_modules cdk.out .empath .pytest_cache .mypy_cache .ruff_cache .hypothesis
