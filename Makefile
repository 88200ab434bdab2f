# Needs python3 (3.10 or newer) and make; everything else goes into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
WHEEL_VENV := .venv-wheel
BENCH_VENV := .venv-bench
BENCH_READY := $(BENCH_VENV)/.ready
WORKERS ?= 2
USED := documents entrances examples fidelity promotion pruning copying tenants postgres

.DEFAULT_GOAL := check
.DELETE_ON_ERROR:
.PHONY: bench check clean contract demo format lint mutants pictures test test-nightly test-servers types wheel-test

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

# The other savers bring clients of their own, which must not change what the tests run with.
$(BENCH_READY): pyproject.toml
	$(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/pip install --quiet --disable-pip-version-check -e '.[bench]'
	touch $@

demo: $(READY)
	$(BIN)/python examples/quickstart.py

test: $(READY)
	$(BIN)/pytest -n $(WORKERS)

test-nightly: $(READY)
	HYPOTHESIS_PROFILE=nightly $(BIN)/pytest -n $(WORKERS) -m nightly -rA

# The faults again, on the newest Redis and Valkey: `make test` runs them on Redis 6.2.
test-servers: $(READY)
	for server in "redis 8" "valkey 9"; do \
		LGT_REDIS_SERVER="$$(PYTHONPATH=tests/support $(BIN)/python -c "import own_redis; print(own_redis.binaries()['$$server'])")" \
			$(BIN)/pytest -n $(WORKERS) tests/*/faults || exit 1; \
	done

# Makes some sixty faults on purpose, one at a time, each of which a test has to notice. Some only: make mutants MUTANTS="fill ack.lua"
mutants: $(READY)
	WORKERS=$(WORKERS) PYTHONPATH=tests $(BIN)/python -m mutants $(MUTANTS)

# Writes docs/benchmarks.md. Quicker, or some workloads only, without docs: make bench BENCH="--quick operations"
bench: $(BENCH_READY)
	$(BENCH_VENV)/bin/python -m benchmarks $(BENCH)

# Needs a Chromium. What is in the pictures is what the test of the page has seen.
pictures: $(READY)
	CHAT_PICTURES=docs/images $(BIN)/pytest -n 0 tests/examples/test_chat_page.py -k pictures -rs

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(READY)
	$(BIN)/mypy

contract: $(READY)
	$(BIN)/lint-imports --no-logo --no-cache

# What users do, again, against the built wheel, with the source folder out of reach; not faults, races, costs and what the
# services among the examples do, to which it makes no difference where the modules lie.
wheel-test: $(READY)
	rm -rf build/wheel $(WHEEL_VENV)
	$(BIN)/python -m build --quiet --wheel --outdir build/wheel
	$(PYTHON) -m venv $(WHEEL_VENV)
	$(WHEEL_VENV)/bin/pip install --quiet --disable-pip-version-check "$$(echo build/wheel/*.whl)[dev]"
	bin="$$PWD/$(WHEEL_VENV)/bin" && away="$$(mktemp -d)" && trap 'rm -rf "$$away"' EXIT && \
	cp -R README.md pyproject.toml docs tests examples "$$away" && cd "$$away" && \
	"$$bin/python" -c 'import pathlib, sysconfig, langgraph_tiered_checkpoint as p; f = pathlib.Path(p.__file__); print(f); assert f.is_relative_to(sysconfig.get_path("purelib"))' && \
	"$$bin/pytest" -n $(WORKERS) -p no:cacheprovider tests/*/unit tests/contract $(patsubst %,tests/%,$(USED)) \
		--ignore-glob '*/test_embedded.py' --ignore-glob '*/examples/test_chat_*' --ignore-glob '*/test_agent_server.py'

check: lint types contract test wheel-test

clean:
	rm -rf $(VENV) $(WHEEL_VENV) $(BENCH_VENV) build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
