# Each target does its whole set-up: a virtual environment of its own, with pinned versions.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# How many test files run side by side, each with servers of its own; 0: one after another, in one process.
JOBS ?= 2
READY := $(VENV)/.ready
# Each of the tests' many processes would else compile all modules anew.
unexport PYTHONDONTWRITEBYTECODE
# What stands in for AWS. It pins versions of its own, so it has an environment of its own.
AWS := .venv-aws
AWS_READY := $(AWS)/.ready

.PHONY: demo test fast lint pgbouncer postgresql test-kill test-connector test-aws test-memory test-model bench docs constraints clean

demo: $(READY)            ## move a generated table, kill -9 in the middle, resume, prove
	$(BIN)/snowmelt demo

test: lint pgbouncer postgresql fast ## what CI runs
	@# Who is done takes from what the other has left, so that none is left with the end.
	$(BIN)/pytest -q -m "not slow" -n $(JOBS) --dist worksteal tests/acceptance tests/integration

fast: $(READY)            ## unit tests, and the contracts of sources
	$(BIN)/pytest -q -m "not slow" -n $(JOBS) --dist loadfile --no-loadscope-reorder tests/contracts tests/unit

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

pgbouncer:                ## Debian's package, where it may be installed; without it its tests are skipped
	@test -x /usr/sbin/pgbouncer || test "$$(id -u)" != 0 || ! command -v apt-get >/dev/null || \
		{ apt-get update -qq && apt-get install -y -qq pgbouncer >/dev/null; } || true

postgresql:               ## Debian's package, which speaks TLS as the wheel's does not; likewise
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || test "$$(id -u)" != 0 || \
		! command -v apt-get >/dev/null || \
		{ apt-get update -qq && apt-get install -y -qq postgresql >/dev/null; } || true

test-kill: $(READY) $(AWS_READY)      ## the kill tests, 20 rounds each
	SNOWMELT_KILL_ROUNDS=20 $(BIN)/pytest -q tests/acceptance/test_kill.py tests/aws/test_migrations.py \
		tests/acceptance/test_snowflake_resume.py tests/acceptance/test_snowflake_outages.py \
		tests/acceptance/test_house_kills.py -k "killed or away"

test-connector: $(READY)  ## whether a release 5 of the Snowflake connector is exact by now
	$(BIN)/pytest -q -m slow tests/contracts/test_connector.py

test-aws: $(READY) $(AWS_READY) ## the state machine, the Lambda function and its deployment, without an account
	$(BIN)/pytest -q tests/aws

test-memory: $(READY)     ## 20 threads on 250 columns below 2 GB, which takes a gigabyte of rows
	$(BIN)/pytest -q -m slow tests/acceptance/test_memory.py

test-model: $(READY)      ## the stateful model of the protocol, many more examples
	HYPOTHESIS_PROFILE=long $(BIN)/pytest -q tests/integration/test_protocol_model.py

bench: $(READY)           ## rows/s beside raw COPY and DuckDB; takes some minutes
	$(BIN)/python -m benchmarks

$(READY): pyproject.toml setup.py constraints.txt $(wildcard src/snowmelt/postgres/_*.[ch])
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

$(AWS_READY): tests/aws/requirements.txt tests/aws/package.json
	$(PYTHON) -m venv $(AWS)
	$(AWS)/bin/pip install --quiet --disable-pip-version-check -r tests/aws/requirements.txt
	@# Of this wheel one file is wanted, the runtime emulator; what else it needs is not installed.
	$(AWS)/bin/pip download --quiet --disable-pip-version-check --no-deps --dest $(AWS) aws-sam-cli==1.170.0
	cd $(AWS) && $(abspath $(AWS))/bin/python -m zipfile -e aws_sam_cli-*.whl wheel && \
		cp wheel/samcli/local/rapid/aws-lambda-rie-* bin/ && chmod +x bin/aws-lambda-rie-* && rm -r wheel *.whl
	cp tests/aws/package.json $(AWS)/ && npm install --silent --no-audit --no-fund --no-package-lock --prefix $(AWS)
	touch $@

docs: $(READY)            ## write the pages of docs/reference from the code
	$(BIN)/python -m snowmelt.reference docs/reference

constraints: $(READY)     ## pin what is installed now
	$(BIN)/pip freeze --exclude-editable > constraints.txt

clean:
	rm -rf $(VENV) $(AWS) build src/snowmelt/postgres/*.so .hypothesis .mypy_cache .ruff_cache .pytest_cache
