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
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# a .venv knows the folder that it was made in; in a copy or a renamed folder its programs would run the old one's code
MOVED := $(shell [ ! -s "$(INSTALLED)" ] || [ "$$(cat "$(INSTALLED)")" = "$(CURDIR)" ] || echo moved)

ON = $(if $(SCHEDULER), --scheduler "$(SCHEDULER)")
# a user's own settings of pip, such as `user = true`, must not reach .venv
export PIP_USER := 0

.DEFAULT_GOAL := help
.PHONY: help setup report check test test-faults lab bench speedrun search ablation publish clean
.PHONY: moved

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  PROFILE=smoke|cpu|gpu|original chooses the profile; default: gpu where CUDA is usable, else cpu"
	@echo "  SEEDS=5 fits every model so many times, deterministic ones once; default: the profile's seeds"
	@echo "  MODELS=\"mlp cnn\" fits these alone, and tells about all that is there"
	@echo "  RETIME=1 fits again what was timed beside other work; WAIT=1 waits for another run of the profile"
	@echo "  SCHEDULER=tcp://HOST:8786 fits on a Dask cluster, SCHEDULER=local:2 on one of two workers here"
	@echo "  PAPER=a4|us-letter chooses the paper of the report's PDF; default: a4"

setup: $(INSTALLED) ## make .venv with the exact versions of requirements.lock

$(INSTALLED): requirements.lock pyproject.toml $(MOVED)
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed, this is " + sys.version'
	$(if $(MOVED),false,"$(BIN)/python" -m pip --version) >/dev/null 2>&1 || $(PYTHON) -m venv --clear "$(VENV)"
	"$(BIN)/python" -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	"$(BIN)/python" -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	echo "$(CURDIR)" >"$(INSTALLED)"

report: setup ## fit what is stale, tell, and write build/<profile>/report.html and report.pdf
	"$(BIN)/python" -m fmreport report$(if $(PROFILE), --profile "$(PROFILE)")$(if $(PAPER), --paper "$(PAPER)")$(if $(SEEDS), --seeds "$(SEEDS)")$(if $(MODELS), --models $(MODELS))$(if $(RETIME), --retime)$(if $(WAIT), --wait)$(ON)

check: setup ## style, types, who imports whom, quick tests: under a minute, for every save
	"$(BIN)/ruff" check .
	"$(BIN)/ruff" format --check .
	"$(BIN)/mypy" fmlib
	"$(BIN)/lint-imports"
	"$(BIN)/python" -m pytest -m "not slow" --numprocesses auto

test: setup ## all of make check, and all tests
	"$(BIN)/ruff" check .
	"$(BIN)/ruff" format --check .
	"$(BIN)/mypy" fmlib
	"$(BIN)/lint-imports"
	"$(BIN)/python" -m pytest --numprocesses auto --dist loadfile --durations=15

test-faults: setup ## kill runs at random moments, again and again: minutes
	"$(BIN)/python" -m pytest -m faults

lab: setup ## open the notebooks in JupyterLab; LAB="..." are options of JupyterLab's own
	"$(BIN)/python" -m fmreport lab$(if $(LAB), -- $(LAB))

bench: setup ## time the study's loop and ours, fits beside a busy core, and how costs grow with images
	"$(BIN)/python" -u -m benchmarks.bench

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
	rm -rf .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find fmlib fmreport benchmarks tests notebooks -name __pycache__ -type d -prune -exec rm -rf {} +
	@[ ! -d build/lab ] || echo "kept: build/lab, the outputs and settings of JupyterLab; remove the folder to forget them"
