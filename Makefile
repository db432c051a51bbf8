# make demo | test | check | help
# Overridable: PYTHON (the interpreter that makes the virtual environment), VENV (where it goes).

PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?=

BIN := $(VENV)/bin
export PATH := $(abspath $(BIN)):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

TEST_PACKAGES := slurm-wlm slurmdbd slurm-client munge mariadb-server chromium
TEST_PROGRAMS := sbatch sacct slurmctld slurmd slurmdbd munged mariadbd chromium

.PHONY: help demo test check test-programs
.DEFAULT_GOAL := help
# A target that failed half-way must not look up to date.
.DELETE_ON_ERROR:

help:
	@echo "make demo    set up $(VENV), run the whole pipeline of config.yaml on this machine, show the results"
	@echo "make test    install what the tests need (on Debian as root: Slurm and a browser too) and run them all"
	@echo "make check   linters, formatters, types"
	@echo "PYTHON=$(PYTHON) and VENV=$(VENV) can be set on the command line."

demo: $(VENV)/.installed
	snakemake --profile cluster/local
	@test results/report.html -nt results/results.html \
		|| snakemake --report results/report.html
	@echo
	@cat results/results.md
	@echo
	@echo "Report: $(CURDIR)/results/report.html"

test: $(VENV)/.installed-dev test-programs
	pytest tests -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

check: $(VENV)/.installed-dev
	ruff check .
	ruff format --check .
	mypy
	snakefmt --check Snakefile workflow/rules
	snakemake --lint

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, %s is %s: make PYTHON=..." % (sys.executable, sys.version.split()[0]) if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "$(PYTHON) cannot make virtual environments. On Debian, as root: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml envs/constraints.txt
	$(BIN)/python -m pip install --quiet -c envs/constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/bin/python pyproject.toml envs/constraints.txt
	$(BIN)/python -m pip install --quiet -c envs/constraints.txt -e ".[dev]"
	@touch $@ $(VENV)/.installed

# The tests start a real Slurm cluster on this machine and open the report in a real browser; their programs are Debian's.
test-programs:
	@missing=; for program in $(TEST_PROGRAMS); do \
		PATH="$$PATH:/usr/sbin:/sbin" command -v $$program >/dev/null || missing="$$missing $$program"; \
	done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	echo "The tests need programs that are not here:$$missing"; \
	if ! command -v apt-get >/dev/null; then \
		echo "They are Debian's packages $(TEST_PACKAGES); install their like and run make test again."; exit 1; \
	elif [ "$$(id -u)" != 0 ]; then \
		echo "Run as root: apt-get update && apt-get install -y $(TEST_PACKAGES)"; exit 1; \
	fi; \
	export DEBIAN_FRONTEND=noninteractive; \
	set -x; \
	apt-get -qq update && apt-get -qq install -y --no-install-recommends $(TEST_PACKAGES)
