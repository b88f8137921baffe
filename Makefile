PYTHON ?= python3
VENV ?= .venv
INSTALLED = $(VENV)/installed
# Compiling takes most of the tests' time, and XLA's optimisations most of that; `make test` runs all tests with them too.
COMPILE_FAST = JAX_DISABLE_MOST_OPTIMIZATIONS=1

.PHONY: demo docs test quick-test types

# Train, evaluate and explain a small network on handwritten digits.
demo: $(INSTALLED)
	$(VENV)/bin/python -m experiments.digits --workdir=runs/digits

test: $(INSTALLED) types
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(COMPILE_FAST) XLA_FLAGS=--xla_force_host_platform_device_count=8 $(VENV)/bin/python -m pytest tests/training
	$(VENV)/bin/python -m pytest

# The library's type hints.
types: $(INSTALLED)
	$(VENV)/bin/mypy

# The library's tests on one device, without those that take longest.
quick-test: $(INSTALLED)
	$(COMPILE_FAST) $(VENV)/bin/python -m pytest -m "not slow" --ignore=tests/experiments

# The site, in site/; a warning is an error.
docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --quiet

$(INSTALLED): $(wildcard requirements/*.txt) setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"Python 3.11 or newer is needed, but {sys.executable} is {sys.version.split()[0]}: make PYTHON=python3.12 ...")'
	@echo "making a virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@echo "installing coda_jax and what it needs into $(VENV): about a minute, the downloads apart"
	@$(VENV)/bin/python -m pip install --quiet --editable '.[docs,test]'
	@touch $@
