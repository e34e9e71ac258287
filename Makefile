# Everything runs in .venv, which every target sets up by itself. `make` alone prints the targets.

PYTHON ?= python3
PROFILE ?=
PAPER ?=
SEEDS ?=
MODELS ?=
RETIME ?=
WAIT ?=
SCHEDULER ?=
LAB ?=
STEPS ?=
COVERAGE ?=
LOWEST ?=
VENV ?= .venv$(if $(LOWEST),-lowest)
BIN := $(VENV)/bin
LOCK := requirements$(if $(LOWEST),-lowest).lock
# a Python that was asked for replaces another one's .venv; otherwise that is kept
ASKED := $(if $(filter-out file,$(origin PYTHON)),--this-python)

COVER = $(if $(COVERAGE), --cov --cov-report=term:skip-covered)
ON = $(if $(SCHEDULER), --scheduler "$(SCHEDULER)")
.DEFAULT_GOAL := help
.PHONY: help setup report style check test test-faults walks lab bench steps speedrun search ablation publish clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  PROFILE=smoke|cpu|gpu|original chooses the profile; default: gpu where CUDA is usable, else cpu"
	@echo "  SEEDS=5 fits every model so many times, deterministic ones once; default: the profile's seeds"
	@echo "  MODELS=\"mlp cnn\" fits these alone, and tells about all that is there"
	@echo "  RETIME=1 fits again what was timed beside other work; WAIT=1 waits for another run of the profile"
	@echo "  SCHEDULER=tcp://HOST:8786 fits on a Dask cluster, SCHEDULER=local:2 on one of two workers here"
	@echo "  COVERAGE=1 has make check or make test say which lines no test ran"
	@echo "  PYTHON=python3.12 makes .venv anew with another Python, VENV=.venv-3.12 beside the one that is there"
	@echo "  LOWEST=1 takes the lowest versions that pyproject.toml allows, in .venv-lowest"
	@echo "  PAPER=a4|us-letter chooses the paper of the report's PDF; default: a4"

setup: ## make .venv with the exact versions of requirements.lock: 3 minutes, 7 GB
	@$(PYTHON) bootstrap.py "$(VENV)" --lock "$(LOCK)" $(ASKED)

report: setup ## train what changed and write build/<profile>/report.html and report.pdf
	"$(BIN)/python" -m fmreport report$(if $(PROFILE), --profile "$(PROFILE)")$(if $(PAPER), --paper "$(PAPER)")$(if $(SEEDS), --seeds "$(SEEDS)")$(if $(MODELS), --models $(MODELS))$(if $(RETIME), --retime)$(if $(WAIT), --wait)$(ON)

style: setup ## style, types, who imports whom
	"$(BIN)/python" -m ruff check .
	"$(BIN)/python" -m ruff format --check .
	"$(BIN)/python" -m mypy fmlib
	"$(BIN)/python" -c "from importlinter.cli import lint_imports_command; lint_imports_command()"

check: style ## style and quick tests: under a minute, for every save
	"$(BIN)/python" -m pytest -m "not slow" --numprocesses auto$(COVER)

test: $(if $(LOWEST),setup,style) ## all of make check, and all tests
	"$(BIN)/python" -m pytest --numprocesses auto --dist loadfile --durations=15$(COVER)

test-faults: setup ## kill runs at random moments, again and again: half an hour
	"$(BIN)/python" -m pytest -m faults

walks: setup ## the README's commands and four strangers' first hours in a fresh clone: a quarter of an hour
	"$(BIN)/python" -m pytest -m walks -rP

lab: setup ## open the notebooks in JupyterLab; LAB="..." are options of JupyterLab's own
	"$(BIN)/python" -m fmreport lab$(if $(LAB), -- $(LAB))

bench: setup ## time our training loop beside the study's, skorch's and Lightning's, fits beside a busy core, and growth
	"$(BIN)/python" -u -m benchmarks.peers
	"$(BIN)/python" -u -m benchmarks.bench

steps: setup ## measure where the cpu profile's time goes; STEPS=--avx2 as on a processor without AVX512
	"$(BIN)/python" -u -m benchmarks.steps $(STEPS)

speedrun: setup ## train the CNN against the clock with five seeds and print the distribution (wants a GPU)
	"$(BIN)/python" -u -m benchmarks.speedrun

search: setup ## try the hyperparameters that the tables in docs/studies lack, on validation images
	"$(BIN)/python" -m fmreport study $(notdir $(basename $(wildcard params/studies/*-search.yaml)))$(ON)

ablation: setup ## measure the ingredients of the networks' recipes that docs/studies lacks
	"$(BIN)/python" -m fmreport study $(notdir $(basename $(wildcard params/studies/*-ablation.yaml)))$(ON)

publish: setup ## copy the finished report into docs/ and refresh the README's table and picture
	"$(BIN)/python" -m fmreport publish $(if $(PROFILE),--profile "$(PROFILE)")

clean: ## remove what was made from the sources; the data, .venv and what notebooks show in JupyterLab stay
	[ ! -d build ] || find build -mindepth 1 -maxdepth 1 ! -name lab -exec rm -rf {} +
	rm -rf .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis .coverage*
	find fmlib fmreport benchmarks tests notebooks -name __pycache__ -type d -prune -exec rm -rf {} +
	@[ ! -d build/lab ] || echo "kept: build/lab, the outputs and settings of JupyterLab; remove the folder to forget them"
