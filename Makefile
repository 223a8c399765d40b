# The two commands are `make demo` and `make test`; `make help` lists the rest.

VENV := .venv
BIN := $(VENV)/bin
PYTHON := $(shell command -v python3.11 || command -v python3)
SUDO := $(shell test "$$(id -u)" = 0 || echo sudo)
APT_INSTALL := $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends
PIP := $(BIN)/python -m pip --disable-pip-version-check

# What the tests run under: one thread a worker, nothing fetched from a model hub.
TEST_ENV := env -u RAY_ADDRESS -u RAY_AUTH_TOKEN -u RAY_AUTH_TOKEN_PATH \
	RAY_USAGE_STATS_ENABLED=0 RAY_DEDUP_LOGS=0 RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO=0 \
	GRADIO_ANALYTICS_ENABLED=False HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test screenshot lint lock clean chromium compiler services peers peers-neural peers-stats

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(VENV)/installed ## make .venv with the pinned dependencies and FleetCast itself

demo: setup compiler ## simulate, train, backtest, serve; dashboard at http://127.0.0.1:8000 (Ctrl-C stops everything)
	@exec $(BIN)/fleetcast demo

test: setup chromium compiler services peers lint ## run every check and test; PYTEST_ARGS="-k NAME" picks some
	$(TEST_ENV) $(BIN)/python -m pytest $(PYTEST_ARGS)

screenshot: setup chromium ## renew the README's picture of the dashboard
	$(TEST_ENV) FLEETCAST_SCREENSHOT=docs/images/dashboard.png $(BIN)/python -m pytest tests/browser

lint: setup ## style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lock: ## renew requirements.lock with the newest versions that pyproject.toml allows
	rm -rf build/lock && $(PYTHON) -m venv build/lock/venv
	build/lock/venv/bin/pip install . && build/lock/venv/bin/pip uninstall --yes fleetcast
	build/lock/venv/bin/pip freeze --all --exclude pip | sed 's/+[^ ]*$$//' > build/lock/use
	build/lock/venv/bin/pip install '.[dev]' hatchling editables && build/lock/venv/bin/pip uninstall --yes fleetcast
	build/lock/venv/bin/pip freeze --all --exclude pip | sed 's/+[^ ]*$$//' > build/lock/all
	{ sed '/^$$/q' requirements.lock; \
	  echo '# What FleetCast needs.'; cat build/lock/use; \
	  echo; echo '# What its tests, checks and build need besides.'; grep -vxFf build/lock/use build/lock/all; \
	} > build/lock/new
	mv build/lock/new requirements.lock && rm -rf build/lock

clean: ## remove .venv, caches and build output (data, models and the service's home stay: see fleetcast reset)
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Real files, so that a second `make` has nothing to do.

$(VENV)/created:
	@test -n "$(PYTHON)" || { echo "FleetCast needs Python 3.11 or newer: apt-get install python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "FleetCast needs Python 3.11 or newer, $(PYTHON) is older" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { $(SUDO) apt-get update && $(APT_INSTALL) python3-venv; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/installed: $(VENV)/created requirements.lock pyproject.toml
	$(PIP) install -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

peers: $(VENV)/peers/installed ## the packages that benchmarks compare with, in an environment of their own

$(VENV)/peers/installed: $(VENV)/created benchmarks/peers/requirements.lock
	$(PYTHON) -m venv --clear $(VENV)/peers
	$(VENV)/peers/bin/python -m pip --disable-pip-version-check install -r benchmarks/peers/requirements.lock
	@touch $@

peers-neural: $(VENV)/peers-neural/installed ## neuralforecast, which brings a PyTorch of its own, for benchmarks.infer

$(VENV)/peers-neural/installed: $(VENV)/created benchmarks/peers/neural.lock
	$(PYTHON) -m venv --clear $(VENV)/peers-neural
	$(VENV)/peers-neural/bin/python -m pip --disable-pip-version-check install -r benchmarks/peers/neural.lock
	@touch $@

peers-stats: $(VENV)/peers-stats/installed ## statsforecast, for `fleetcast backtest --rivals auto_theta`

$(VENV)/peers-stats/installed: $(VENV)/created benchmarks/peers/statsforecast.lock
	$(PYTHON) -m venv --clear $(VENV)/peers-stats
	$(VENV)/peers-stats/bin/python -m pip --disable-pip-version-check install -r benchmarks/peers/statsforecast.lock
	@touch $@

compiler:
	@command -v g++ >/dev/null || { $(SUDO) apt-get update && $(APT_INSTALL) g++; }

chromium:
	@command -v chromium >/dev/null || { $(SUDO) apt-get update && $(APT_INSTALL) chromium; }

# What the service is tested against: the real Prometheus, Alertmanager, node_exporter and PostgreSQL; tests start their
# own. Certificates of the tests are made with openssl.
services:
	@{ command -v prometheus && command -v promtool && command -v prometheus-node-exporter && command -v openssl \
		&& command -v prometheus-alertmanager \
		&& ls /usr/lib/postgresql/*/bin/initdb; } >/dev/null 2>&1 \
		|| { $(SUDO) apt-get update && $(APT_INSTALL) prometheus prometheus-alertmanager prometheus-node-exporter postgresql openssl; }
