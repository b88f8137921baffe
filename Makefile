PYTHON ?= python3
VENV ?= .venv
INSTALLED = $(VENV)/installed
RUN ?= runs/digits
PYTEST = $(VENV)/bin/python -m pytest --durations=25
# Where the tests are that are marked with `precision`, and those that `quick-test` runs.
PRECISION = tests/alignment tests/interop tests/metrics tests/networks tests/training \
	tests/test_contributions.py tests/test_pretrained_networks.py
QUICK = tests/attribution tests/benchmarks/test_peer.py tests/command_line/test_convert.py \
	tests/command_line/test_export.py tests/interop tests/networks tests/test_contributions.py tests/test_docs.py

.PHONY: demo docs test quick-test types

# Train, evaluate and explain a small network on handwritten digits.
demo: $(INSTALLED)
	$(VENV)/bin/python -m experiments.digits --workdir=$(RUN)

test: $(INSTALLED) types
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(PYTEST) -m "not precision"
	XLA_FLAGS=--xla_force_host_platform_device_count=8 $(PYTEST) -m devices tests/training
	JAX_DISABLE_MOST_OPTIMIZATIONS=0 $(PYTEST) -m precision $(PRECISION)

# The library's type hints.
types: $(INSTALLED)
	$(VENV)/bin/mypy

# Those that need PyTorch, which are skipped where there is none, and those around them.
quick-test: $(INSTALLED)
	$(PYTEST) -m "not slow" $(QUICK)

# The site, in site/; a warning is an error.
docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --quiet

$(INSTALLED): $(wildcard requirements/*.txt) setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"Python 3.11 or newer is needed, but {sys.executable} is {sys.version.split()[0]}: make PYTHON=python3.12 ...")'
	@echo "making a virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@echo "installing coda_jax and what it needs into $(VENV): about a minute, the downloads apart"
	@$(VENV)/bin/python -m pip install --quiet --no-compile --editable '.[docs,test]'
	@touch $@
