# Everything a person runs here. Plain enough for the GNU make 3.81 of macOS: no .ONESHELL, no !=.
# VENV, PYTHON, JOBS, PYTEST_ARGS, MODEL_TIMES and MNIST may be set on the command line or in the environment.

VENV ?= .venv
# One more than two cores, as tests wait for servers and for other processes.
JOBS ?= 3
# worksteal: neighbouring tests run in one worker, which makes a module's buckets, until another one has nothing to do.
PYTEST_ARGS ?= -n $(JOBS) --dist worksteal

MNIST ?= mnist

# How many times as many examples as in `make test`.
MODEL_TIMES ?= 100

# The first Python that is new enough: on macOS `python3` may be 3.9 while `python3.12` is there too.
ifndef PYTHON
PYTHON := $(shell for p in python3 python3.13 python3.12 python3.11 python3.10; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo $$p && break; done)
ifeq ($(PYTHON),)
PYTHON := python3
endif
endif

BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test model soak frameworks bench lint types check servers servers-stop clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.installed-demo ## Make a repository from real digits, change it, merge it, share it
	@$(BIN)/hangar demo

test: $(VENV)/.installed-test ## Run the whole test suite
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

model: $(VENV)/.installed-test ## Try everything at random against plain dicts, for hours
	@HANGAR_MODEL_EXAMPLES=$(MODEL_TIMES) $(BIN)/python -m pytest -n $(JOBS) -o faulthandler_timeout=0 tests/model

soak: $(VENV)/.installed-test ## Many writers, bad networks, and garbage collections beside them, for an hour
	@$(BIN)/python -m pytest -o faulthandler_timeout=0 -m soak -rP tests/faults

frameworks: $(VENV)/.installed-test $(VENV)/.installed-frameworks ## Loaders with TensorFlow and JAX, of a gigabyte each
	@$(BIN)/python -m pytest -n0 -m frameworks tests/loaders

bench: $(VENV)/.installed-bench ## Compare with others; MNIST=FOLDER has the four files of MNIST
	@$(BIN)/python -m benchmarks --data "$(MNIST)"

lint: $(VENV)/.installed-lint ## Look for mistakes in the source
	@$(BIN)/ruff check .

types: $(VENV)/.installed-lint $(VENV)/.installed-test ## Check the types
	@$(BIN)/mypy

check: lint types test ## All of the three above

servers: $(VENV)/.installed-test ## Start local S3 and GCS servers, and say how to reach them
	@$(BIN)/python -m infra.local start

servers-stop: $(VENV)/.installed-test ## Stop them
	@$(BIN)/python -m infra.local stop

clean: ## Remove what the commands above have made
	rm -rf .venv build dist *.egg-info .coverage htmlcov .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An empty file in the virtual environment remembers that an extra is installed, so that a second run starts at once.
$(VENV)/.installed-%: $(VENV)/.made pyproject.toml
	@echo "installing hangar-cloud[$*] into $(VENV)"
	@$(BIN)/python -m pip install --quiet --editable '.[$*]'
	@touch $@

# The pip that comes with a Python tries a hundred versions of boto3 before it finds the one that s3fs accepts;
# a new one needs seconds.
$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || { echo "hangar-cloud needs Python 3.10 or newer, and there is no '$(PYTHON)': \
	install one, or name yours with 'make PYTHON=/path/to/python3'" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "hangar-cloud needs Python 3.10 or newer, \
	and '$(PYTHON)' is older: name a newer one with 'make PYTHON=/path/to/python3'" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "'$(PYTHON)' cannot make virtual environments: \
	install its venv module (Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade pip
	@touch $@
