# The words of CONTRIBUTING.md, of .ci/run and of the laptop are the same. PYTHON chooses the interpreter (3.11 or newer).
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
# Two processes of one thread each: two threads of two processes on two cores would wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadgroup

.PHONY: help install install-user search ui check format test test-fast test-nightly test-cluster test-bounds chaos fuzz pictures clean
.PHONY: bench bench-quick bench-methods bench-search bench-driver bench-gpu bench-quality

help:            ## this list
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | column -t -s '	'

# Made anew when the dependencies change; a stamp is only written once everything is installed. pip says what it fetches: the
# first installation takes minutes, most of them for PyTorch.
$(BIN)/.installed-user: pyproject.toml
	@echo "Installing smile-tuner into .venv, once. PyTorch is the largest part:"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --editable .
	@touch $@
	@echo "Installed. For the commands of this README, once in each shell: . $(BIN)/activate"

$(BIN)/.installed: $(BIN)/.installed-user
	$(BIN)/python -m pip install --disable-pip-version-check --editable '.[dev]'
	touch $@

install: $(BIN)/.installed  ## the virtual environment, with everything that development needs

install-user: $(BIN)/.installed-user ## the virtual environment, with what a search needs

search: $(BIN)/.installed-user ## search SMILE's hyper-parameters on the embedded data; ARGS are handed on
	$(BIN)/python -m tuner.search --space search_spaces/smile.yaml $(ARGS)

ui: $(BIN)/.installed-user ## the MLflow UI on the store of this folder, at http://127.0.0.1:5000
	$(BIN)/python -m tuner.ui $(ARGS)

check: $(BIN)/.installed    ## lint, format, types, and which way imports go
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(BIN)/.installed   ## put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: $(BIN)/.installed     ## every test: the quick ones, and the service in real processes
	$(PYTEST) -m "not cluster and not nightly" $(ARGS)

test-fast: $(BIN)/.installed ## the quick tests alone
	$(PYTEST) $(ARGS)

test-nightly: $(BIN)/.installed ## what is proven by day already, proven again in longer stories
	$(PYTEST) -m nightly $(ARGS)

test-cluster: $(BIN)/.installed ## searches on a cluster of real processes, one line a scenario at the end; takes root
	$(BIN)/pytest tests/cluster -m cluster $(ARGS)

test-bounds: $(BIN)/.installed ## the quick tests with the oldest version of every dependency that is allowed
	$(BIN)/python -m tests.packaging.lower_bounds $(ARGS)

chaos: $(BIN)/.installed    ## twenty searches killed at random moments, and gone on with: about twenty minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.end_to_end.chaos $(ARGS)

fuzz: $(BIN)/.installed     ## two thousand files, flags, folders and journals with random mistakes: each is refused, or runs
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz $(ARGS)

pictures: $(BIN)/.installed ## the pictures of README and docs anew; ARGS names a finished search
	$(BIN)/python -m docs.pictures $(ARGS)

clean:           ## remove the environment and caches; experiments and mlflow.db stay
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache *.egg-info

# For benchmarks that train in their own process: the environment that workers start with.
WORKER := $(BIN)/python -m benchmarks.worker_environment

bench: $(BIN)/.installed    ## every benchmark, one line a figure at the end; ARGS="--root FOLDER" for those on photographs
	$(WORKER) $(BIN)/python -m benchmarks.bench $(ARGS)

bench-quick: $(BIN)/.installed ## the same figures within five minutes, with more noise
	$(WORKER) $(BIN)/python -m benchmarks.bench --quick $(ARGS)

bench-methods: $(BIN)/.installed ## what a step of each method costs, paired with plain fine-tuning
	$(WORKER) $(BIN)/python -m benchmarks.methods $(ARGS)

bench-driver: $(BIN)/.installed  ## what the driver of a search spends on a trial, up to ten thousand of them
	$(BIN)/python -m benchmarks.driver $(ARGS)

bench-gpu: $(BIN)/.installed     ## what only a GPU can show, in nine minutes; ARGS="--device cpu --seconds 300" rehearses it
	$(BIN)/python -m benchmarks.gpu $(ARGS)

bench-search: $(BIN)/.installed  ## what the service costs in a thousand trials that train nothing, beside bare Ray Tune
	$(BIN)/python -m benchmarks.search $(ARGS)

# fastai is a peer of that benchmark alone, which skips it where it cannot be installed, and says so.
$(BIN)/.bench-installed: $(BIN)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[bench]' && touch $@ || true

bench-quality: $(BIN)/.bench-installed ## test top-1 at equal minutes, against what a user would pick instead; ARGS="--root FOLDER…"
	$(BIN)/python -m benchmarks.quality $(ARGS)
