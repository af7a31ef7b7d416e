# One command each. `make run` and `make test` set up all they need and are quick the second time.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ARGS   ?=
DEPLOYMENT ?= .wardian/wardian.toml
ENCLAVE    ?= .wardian/enclave

.DEFAULT_GOAL := help
.PHONY: help run learn test check fix bench bench-engines bench-learning bench-shared bench-peers bench-zoo capacity compare mlperf soak docs flink fuzz fuzz-refusals lock ray dp mlflow mpc he trace measure size spark clean

help:
	@echo "make run [ARGS=--once]  a sealed model behind HTTPS on this machine, until Ctrl-C"
	@echo "make learn              three owners train one model on sealed tables, under their policies"
	@echo "make test               every test"
	@echo "make check              format, lint, types, layers, undeclared imports, documentation"
	@echo "make bench              requests a second, latency and CPU: sealed, clear, FastAPI"
	@echo "make bench-engines      the same mesh on the local engine, Flink and Ray"
	@echo "make bench-learning     rounds, masks, set intersection, vertical models, memory: what they cost"
	@echo "make bench-shared       a job over sealed tables beside the same training in the clear"
	@echo "make bench-peers        the same beside MLServer, KServe, LitServe, BentoML and PyTriton"
	@echo "make bench-zoo          the Redis dialect of Cluster Serving, with its own client"
	@echo "make compare            clear text, TEE, MPC and HE: time, bytes, errors of the same networks"
	@echo "make mpc                SPU for make compare, in $(VENV)/engines/mpc (Python 3.11)"
	@echo "make he                 TenSEAL for make compare, in $(VENV)/engines/he"
	@echo "make mlperf             the server scenario of MLPerf, by MLCommons' own load generator"
	@echo "make soak               ten minutes of load while processes are killed and frozen"
	@echo "make flink              what the engine flink needs, in an environment of its own"
	@echo "make capacity           predicted against measured, and what a million requests a second take"
	@echo "make fuzz [ARGS='--inputs 100000']  ten million almost-right inputs to every parser"
	@echo "make fuzz-refusals      ten minutes of tables made up to learn who is in another owner's"
	@echo "make ray                the environment of the engine Ray, in $(VENV)/engines/ray"
	@echo "make dp                 the accountant of differential privacy, in $(VENV)/engines/dp"
	@echo "make mlflow             what \`wardian fl export\` writes with, in $(VENV)/engines/mlflow"
	@echo "make spark              the environment of examples/ray-on-spark, in $(VENV)/engines/spark"
	@echo "make docs               the documentation, into site/"
	@echo "make lock               resolve the dependencies anew"
	@echo "make trace              which files each role opens, under strace, after a change of what it uses"
	@echo "make measure            build every role's manifest and print the measurements"

run: $(VENV)/serve.installed
	@$(BIN)/wardian up examples/digits $(ARGS)

learn: $(VENV)/engines/shared.installed
	@$(VENV)/engines/shared/bin/python examples/shared-tumours/learn_tumours.py $(ARGS)

test: $(VENV)/dev.installed
	$(BIN)/pytest $(ARGS)

check: $(VENV)/dev.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry src
	$(BIN)/zensical build --strict

fix: $(VENV)/dev.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench-learning: $(VENV)/dev.installed
	$(BIN)/python bench/learning/digits_table.py
	$(BIN)/python bench/learning/round_trips.py
	$(BIN)/python bench/learning/reductions.py
	$(BIN)/python bench/learning/masking.py
	$(BIN)/python bench/learning/masked_rounds.py
	$(BIN)/python bench/learning/psi.py
	$(BIN)/python bench/learning/vertical.py
	$(BIN)/python bench/learning/columns.py
	$(BIN)/python bench/learning/large.py

# 10 million rows of three owners: 6 GB of disk in a scratch directory (--folder), half an hour.
bench-shared: $(VENV)/engines/shared.installed
	$(VENV)/engines/shared/bin/python bench/learning/shared_tables.py $(ARGS)

bench: $(VENV)/dev.installed
	$(BIN)/python bench/serving.py $(ARGS)

bench-engines: $(VENV)/dev.installed flink ray
	$(BIN)/python bench/engines.py $(ARGS)

# Each peer gets an environment of its own, in a scratch directory (--scratch), by pip as it is
# configured: 2 GB, and ten minutes the first time. Ray Serve and TorchServe only by name:
# ARGS='--peers ray,torchserve'.
bench-peers: $(VENV)/dev.installed
	$(BIN)/python bench/peers/run.py $(ARGS)

# The client is that of WARDIAN_ZOO_PYTHON, or gets an environment in a scratch directory (--scratch).
bench-zoo: $(VENV)/dev.installed
	$(BIN)/python bench/zoo_redis.py $(ARGS)

mlperf: $(VENV)/dev.installed
	$(BIN)/python bench/mlperf.py $(ARGS)

soak: $(VENV)/dev.installed
	$(BIN)/python bench/soak.py $(ARGS)

# Java 17 is the system's to install (Debian: openjdk-17-jre-headless).
flink: $(VENV)/engines/flink.installed
# A quarter of an hour. ARGS=--page renders the page of the newest results anew.
capacity: $(VENV)/dev.installed
	$(BIN)/python bench/capacity/whole.py $(ARGS)

# Three minutes. What `make mpc` and `make he` have not installed stands in its table as such.
compare: $(VENV)/dev.installed
	$(BIN)/python bench/compare/compare.py $(ARGS)

fuzz: $(VENV)/dev.installed
	$(BIN)/python tests/fuzz/run.py $(ARGS)

fuzz-refusals: $(VENV)/dev.installed
	$(BIN)/python -W ignore tests/fuzz/refusals.py $(ARGS)

docs: $(VENV)/dev.installed
	$(BIN)/zensical build --strict

lock: $(VENV)/dev.installed
	$(BIN)/python tools/lock.py

trace: $(VENV)/dev.installed
	$(BIN)/python tools/trace_roles.py $(ARGS)

ray: $(VENV)/engines/ray.installed

dp: $(VENV)/engines/dp.installed

mlflow: $(VENV)/engines/mlflow.installed

spark: $(VENV)/engines/spark.installed

# 400 MB, a minute.
mpc: $(VENV)/engines/mpc.installed

he: $(VENV)/engines/he.installed

# By default of the mesh that `make run` made last.
measure: $(VENV)/serve.installed
	@for role in broker frontend worker; do \
	  $(BIN)/wardian enclave build $$role --deployment $(DEPLOYMENT) -o $(ENCLAVE) || exit; done
	@$(BIN)/wardian enclave measure $(ENCLAVE)/*.manifest

size:
	@find src -name '*.py' -print0 | xargs -0 wc -l | sort -n | tail -n 30

clean:
	rm -rf $(VENV) .wardian site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# The lock files pin every package with its hashes. --no-deps: the lock is the whole list, so nothing
# outside of it can be pulled in (OpenVINO's telemetry package is left out of it on purpose).
$(VENV)/created:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	  || { echo "Wardian needs Python 3.11 to 3.13; say which: make PYTHON=python3.11 ..."; exit 2; }
	@echo "Creating $(VENV) ..."
	@$(PYTHON) -m venv $(VENV) && touch $@

$(VENV)/serve.installed: $(VENV)/created requirements.lock pyproject.toml
	@echo "Installing Wardian and what it serves with ..."
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e . && touch $@

$(VENV)/dev.installed: $(VENV)/serve.installed requirements-dev.lock
	@echo "Installing what the tests and checks need ..."
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps --require-hashes -r requirements-dev.lock && touch $@

# An engine's pins are its own, so it gets an environment of its own, with Wardian's base install in it.
$(VENV)/engines/%.installed: requirements-%.lock pyproject.toml $(VENV)/created
	@echo "Installing the engine $* ..."
	@$(BIN)/python -m venv --clear $(VENV)/engines/$*
	@$(VENV)/engines/$*/bin/pip install -q --disable-pip-version-check --no-deps --require-hashes -r $<
	@$(VENV)/engines/$*/bin/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e . && touch $@

# 850 MB, two minutes. Some of it comes as source: what builds it is pinned, too, and installed first.
$(VENV)/engines/flink.installed: requirements-flink.lock requirements-flink-build.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' \
	  || { echo "Flink needs Python 3.11 or 3.12; say which: make flink PYTHON=python3.11"; exit 2; }
	@echo "Installing Flink in $(VENV)/engines/flink ..."
	@$(PYTHON) -m venv $(VENV)/engines/flink
	@$(VENV)/engines/flink/bin/pip install -q --disable-pip-version-check --no-deps --require-hashes -r requirements-flink-build.lock
	@$(VENV)/engines/flink/bin/pip install -q --disable-pip-version-check --no-deps --require-hashes --no-build-isolation -r requirements-flink.lock
	@$(VENV)/engines/flink/bin/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e . && touch $@

# What `bench/compare` asks: it needs nothing of Wardian, and SPU takes no numpy of ours.
$(VENV)/engines/mpc.installed $(VENV)/engines/he.installed: $(VENV)/engines/%.installed: requirements-%.lock
	@$(PYTHON) -c 'import sys; sys.exit("$*" == "mpc" and sys.version_info[:2] != (3, 11))' \
	  || { echo "SPU has wheels for Python 3.11; say which: make mpc PYTHON=python3.11"; exit 2; }
	@echo "Installing $* in $(VENV)/engines/$* ..."
	@$(PYTHON) -m venv --clear $(VENV)/engines/$*
	@$(VENV)/engines/$*/bin/pip install -q --disable-pip-version-check --no-deps --require-hashes -r $< && touch $@
