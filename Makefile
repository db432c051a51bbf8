# make demo | quick | test | mutants | check | docs | generate | pictures | gpu | help
# Overridable: PYTHON (the interpreter that makes the virtual environment), VENV (where it goes).

PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?=
GPU_ARGS ?=
DEMO_ARGS ?=

BIN := $(VENV)/bin
export PATH := $(abspath $(BIN)):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export NO_MKDOCS_2_WARNING := 1

PLUGIN := src/snakemake-executor-plugin-submitit
# Bytecode is written when a module is first imported; to write it for all of torch now takes 20 seconds more. Where it may not
# be written, as in many container images, every process would compile torch anew: for 10 to 20 seconds, each time.
unexport PYTHONDONTWRITEBYTECODE
INSTALL := $(BIN)/python -m pip install --quiet --no-compile -c envs/constraints.txt -e $(PLUGIN)
PROJECT_FILES := pyproject.toml $(PLUGIN)/pyproject.toml envs/constraints.txt
PYTEST := pytest -n 2 --dist loadfile --no-loadscope-reorder
TEST_PACKAGES := slurm-wlm slurmdbd slurm-client munge mariadb-server chromium rsync iproute2 gcc libc6-dev \
	texlive-latex-base texlive-latex-recommended poppler-utils
TEST_PROGRAMS := sbatch sacct slurmctld slurmd slurmdbd munged mariadbd chromium rsync ip cc pdflatex pdffonts

.PHONY: help demo quick test mutants check docs generate pictures gpu test-programs
.DEFAULT_GOAL := help
# A target that failed half-way must not look up to date.
.DELETE_ON_ERROR:

help:
	@echo "make demo      set up $(VENV), run the whole pipeline of config.yaml on this machine, show the results;"
	@echo "               DEMO_ARGS=--verbose prints Snakemake's own output"
	@echo "make quick     unit tests and contracts: under two minutes on 2 cores"
	@echo "make test      every test; installs what they need (on Debian as root: Slurm and a browser too), and ends with"
	@echo "               a list of what could not be run; with REQUIRE_ALL=1 that is a failure"
	@echo "make mutants   make hundreds of faults in a copy of the package, one by one: some test must notice each"
	@echo "make check     linters, formatters, types"
	@echo "make docs      build the documentation site into build/site, strictly"
	@echo "make generate  write again what is made from the code: schema, reference, tables of README and docs"
	@echo "make pictures  run the demo in a terminal and draw terminal and report in a browser, for README and docs; needs tmux and Chromium"
	@echo "make gpu       on a machine with a GPU: tests on it, then figures, in parts that are recorded (docs/gpu.md);"
	@echo "               GPU_ARGS='--parts step-128' selects some, GPU_ARGS=--fake tries it without a GPU"
	@echo "PYTHON=$(PYTHON) and VENV=$(VENV) can be set on the command line."

demo: $(VENV)/.installed
	spikedistill demo . $(DEMO_ARGS)

quick: $(VENV)/.installed-dev
	$(PYTEST) -m "not slow" tests/unit tests/docs $(PLUGIN)/tests/unit $(PYTEST_ARGS)

test: $(VENV)/.installed-dev test-programs
	$(PYTEST) $(PYTEST_ARGS)

# MUTANTS_ARGS='--only distill --jobs 8' chooses faults, and how many at a time.
mutants: $(VENV)/.installed-dev
	python -m tests.mutants $(MUTANTS_ARGS)

check: $(VENV)/.installed-dev
	ruff check .
	ruff format --check .
	mypy
	snakefmt --check Snakefile workflow/rules src/spikedistill/project/template/Snakefile
	snakemake --lint

docs: $(VENV)/.installed-dev
	mkdocs build --strict --quiet

generate: $(VENV)/.installed-dev
	spikedistill generate

# PICTURES_ARGS='--results FOLDER' takes report and figure from there, not from the demo.
pictures: $(VENV)/.installed-dev
	python docs/pictures/make.py $(PICTURES_ARGS)

gpu: $(VENV)/.installed-dev
	python -m benchmarks.gpu $(GPU_ARGS)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, %s is %s: make PYTHON=..." % (sys.executable, sys.version.split()[0]) if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "$(PYTHON) cannot make virtual environments. On Debian, as root: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python $(PROJECT_FILES)
	$(INSTALL) -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/bin/python $(PROJECT_FILES)
	$(INSTALL) -e ".[dev]"
	@touch $@ $(VENV)/.installed

# The tests start a real Slurm cluster on this machine, open the report in a real browser and compile its tables and figures. Their programs are Debian's;
# where they cannot be installed, the tests that need them are not run, and pytest's summary says so.
test-programs:
	@missing=; for program in $(TEST_PROGRAMS); do \
		PATH="$$PATH:/usr/sbin:/sbin" command -v $$program >/dev/null || missing="$$missing $$program"; \
	done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	echo "Some tests need programs that are not here:$$missing"; \
	if ! command -v apt-get >/dev/null || [ "$$(id -u)" != 0 ]; then \
		echo "They cannot be installed from here (that takes apt-get, as root), so these tests are not run."; exit 0; \
	fi; \
	export DEBIAN_FRONTEND=noninteractive; \
	set -x; \
	{ apt-get -qq update && apt-get -qq install -y --no-install-recommends $(TEST_PACKAGES); } || [ -z "$$REQUIRE_ALL" ]
