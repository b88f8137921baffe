PYTHON ?= python3
VENV ?= .venv
INSTALLED = $(VENV)/installed
PYTEST = $(VENV)/bin/python -m pytest --durations=25
# The test files that hold a word.
with = $(sort $(shell grep -rlE "$(1)" --include="test_*.py" tests))

.PHONY: demo docs test quick-test types

# Train, evaluate and explain a small network on handwritten digits.
demo: $(INSTALLED)
	$(VENV)/bin/python -m experiments.digits --workdir=runs/digits

test: $(INSTALLED) types
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(PYTEST) -m "not precision"
	XLA_FLAGS=--xla_force_host_platform_device_count=8 $(PYTEST) -m devices $(call with,mark.devices)
	JAX_DISABLE_MOST_OPTIMIZATIONS=0 $(PYTEST) -m precision $(call with,mark.precision|DTYPES)

# The library's type hints.
types: $(INSTALLED)
	$(VENV)/bin/mypy

# The files of the tests that need PyTorch or Gradio, which are skipped where they are absent, and of those with the
# authors' outputs.
quick-test: $(INSTALLED)
	$(PYTEST) -m "not slow" $(call with,importorskip|import_captum|golden[^ ]|[\"']torch)

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
