# make run | test | check | fuzz | bench | chaos | setup | lock | audit | sbom | clean. Nothing else has to be installed by hand.
SHELL := /bin/bash
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
PAGE := src/taskgraph/server/graphiql/index.html
JUDGES := tests/judges/node_modules/.package-lock.json

.PHONY: run test check fuzz setup lock audit sbom clean schema bench bench-check bench-page chaos chaos-page

run: setup  ## set-up, then one machine with everything; another port: make run ARGS="--port 8011"
	$(BIN)/taskgraph dev --demo $(ARGS)

test: setup $(JUDGES)  ## set-up, then the whole suite
	$(BIN)/pytest

check: setup  ## format, lint, types, schema
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/taskgraph schema --check schema.graphql

fuzz: setup  ## hostile values for every argument, half an hour; what was sent is counted: make fuzz FUZZ_INPUTS=1000
	FUZZ_INPUTS=$${FUZZ_INPUTS:-20000} FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-200} $(BIN)/pytest -n 0 -rP tests/fuzz $(ARGS)

setup: .venv/installed $(PAGE)  ## environment and GraphiQL only

# --require-hashes: what is installed is byte for byte what was locked. The stamp is written last, so a broken set-up starts over.
.venv/installed: requirements.lock requirements-dev.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 or newer is needed; install it and try again" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "error: this Python cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock -r requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

$(PAGE): web/package.json web/package-lock.json $(wildcard web/*.html web/*.js web/*.ts web/*.tsx web/*.css web/src/*)
	@if command -v npm >/dev/null && node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)'; then \
	  cd web && npm ci --no-audit --no-fund --loglevel=error && npm run --silent build; \
	else echo "note: Node 20 or newer was not found, so GraphiQL is not built; install Node and run make again. The API works without it."; fi

# npm writes the file last.
$(JUDGES): tests/judges/package.json tests/judges/package-lock.json
	@if command -v npm >/dev/null && node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)'; then \
	  npm ci --prefix tests/judges --no-audit --no-fund --loglevel=error && touch $@; \
	else echo "note: Node 20 or newer was not found, so the tests will not ask other people's programs"; fi

lock:  ## resolve pyproject.toml's ranges anew, and bench's
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header pyproject.toml --extra embedded --group dev -c requirements.lock -o requirements-dev.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header bench/requirements.in -o bench/requirements.txt

audit: setup  ## known vulnerabilities in what the lock files name; asks a database on the internet
	.ci/audit

sbom: setup  ## what the server is made of, as CycloneDX, written to sbom.json
	$(BIN)/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml --output-reproducible --output-file sbom.json

schema:  ## print the schema from code
	$(BIN)/taskgraph schema > schema.graphql

bench: setup bench/.venv/installed bench/peers/node_modules/.package-lock.json  ## beside other servers, written to docs/performance.md; minutes: make bench ARGS=--quick
	$(BIN)/python -m bench $(ARGS)

bench-check: setup  ## has an operation become more expensive? needs no other servers
	$(BIN)/python -m bench.regression $(ARGS)

bench-page: bench/.venv/installed  ## the page of results anew, from bench/results.json
	bench/.venv/bin/python -m bench.report bench/results.json docs

chaos: setup  ## kills, stops and restarts everything under load, written to docs/reliability.md; minutes: make chaos ARGS=--quick
	$(BIN)/python -m chaos $(ARGS)

chaos-page: setup  ## the page of results anew, from chaos/results.json
	$(BIN)/python -m chaos.page

bench/.venv/installed: bench/requirements.txt
	$(PYTHON) -m venv --clear bench/.venv
	bench/.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r bench/requirements.txt
	touch $@

# npm writes the file last.
bench/peers/node_modules/.package-lock.json: bench/peers/package.json bench/peers/package-lock.json
	@command -v npm >/dev/null || { echo "error: the other servers need Node 20 or newer; install it and try again" >&2; exit 1; }
	cd bench/peers && npm ci --no-audit --no-fund --loglevel=error
	touch $@

clean:  ## what set-up and runs have made; a data folder is kept: remove .taskgraph by hand
	rm -rf .venv bench/.venv bench/peers/node_modules tests/judges/node_modules bench/run bench/run.lock bench/quick chaos/quick web/node_modules src/taskgraph/server/graphiql .mypy_cache .ruff_cache .pytest_cache .hypothesis
