# Nothing but Python 3.11, pip and make is needed. Every target makes .venv and installs what it lacks.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
# Where pip finds the build of torch you want, for instance the CPU build: make demo TORCH_INDEX=<index URL>
TORCH_INDEX ?=
TORCH := torch==2.13.0

# Processes that tests are spread over.
WORKERS ?= 2

BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
INPUTS := pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test test-docs check static fast-tests docs figures mutations bench gpu-check gpu-prepare systems clean

help:  ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(BIN)/python:
	$(PYTHON) -m venv .venv

.venv/.torch: $(BIN)/python constraints.txt
	@echo "Installing $(TORCH)"
	$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	@touch $@

.venv/.run: .venv/.torch $(INPUTS)
	@echo "Installing st2llm"
	$(PIP) -e .
	@touch $@

.venv/.dev: .venv/.torch $(INPUTS)
	@echo "Installing st2llm and what its checks need"
	$(PIP) -e ".[dev]"
	@touch .venv/.run $@

.venv/.docs: .venv/.run
	@echo "Installing what the documentation site needs"
	$(PIP) -e ".[docs]"
	@touch $@

demo: .venv/.run  ## the main question answered on real data, in minutes
	$(BIN)/st2llm compare evaluation/suites/demo.yaml --out runs/demo --resume

# Tests are small: two processes of one thread each are faster than one of two. The one that is through first takes over
# from the other, since a few files hold most of the minutes.
test: .venv/.dev  ## every test of the code
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not documentation"

test-docs: .venv/.dev  ## the code blocks of the documentation that train or ask the real language model
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m documentation

# Types take one core for most of a minute, so the fast tests run beside them.
check: .venv/.dev  ## format, lint, types, layers and the fast tests
	@$(MAKE) --no-print-directory -j 2 static fast-tests

static: .venv/.dev  ## format, lint, types and layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fast-tests: .venv/.dev
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal -m "not slow"

# Material prints a notice about MkDocs itself at each build; it is no warning of ours.
docs: .venv/.docs  ## the documentation site, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

figures: .venv/.run  ## the tables and figures of README and docs, from the committed reports and the code
	$(BIN)/python evaluation/figures.py
	$(BIN)/python docs/figures/make.py
	$(BIN)/python docs/reference/make.py

mutations: .venv/.dev  ## planted mistakes, each of which must make its tests fail
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python tests/mutations/run.py --workers $(WORKERS)

bench: .venv/.run  ## speed and memory, as ratios within one run
	@for script in $(filter-out benchmarks/gpu_check.py,$(wildcard benchmarks/*.py)); do [ ! -f "$$script" ] || $(BIN)/python "$$script" || exit 1; done

# Offline once GPU_CACHE was filled, on a machine with network, by: make gpu-prepare GPU_CACHE=folder
gpu-check: .venv/.dev  ## the checks that need a GPU, in at most eight minutes; results in runs/gpu-check.json
	$(BIN)/python benchmarks/gpu_check.py $(if $(GPU_CACHE),--cache $(GPU_CACHE)) $(if $(DEVICE),--device $(DEVICE))

gpu-prepare: .venv/.run  ## what gpu-check needs, downloaded into the folder GPU_CACHE
	$(BIN)/python benchmarks/gpu_check.py --prepare $(if $(GPU_CACHE),--cache $(GPU_CACHE))

systems: .venv/.run  ## published transfer systems: trained one after the other, then compared
	@for s in urbangpt; do \
	  $(BIN)/st2llm align alignment/systems/$$s.yaml --out runs/$$s --resume || exit 1; done
	@for s in stg-llm st-llm st-llm-plus gatgpt; do \
	  $(BIN)/st2llm finetune alignment/systems/$$s.yaml --out runs/$$s --resume || exit 1; done
	$(BIN)/st2llm compare systems-auckland --out runs/systems-auckland --resume
	@for s in saits videomae; do \
	  $(BIN)/st2llm pretrain alignment/systems/$$s.yaml --out runs/$$s --resume || exit 1; done
	@for s in los-loop-llm los-loop-impute los-loop-saits videomae; do \
	  $(BIN)/st2llm compare systems-$$s --out runs/systems-$$s --resume || exit 1; done
	$(BIN)/st2llm align test-align --out runs/test-align --resume
	$(BIN)/st2llm align test-align --set data=ett-h2-standardised --out runs/test-align-ett-h2 --resume
	@for s in ett-h1 ett-h2; do $(BIN)/st2llm compare systems-$$s --out runs/systems-$$s --resume || exit 1; done

clean:  ## what was built and run; .venv and the cache of downloads stay
	rm -rf runs site dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +
