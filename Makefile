# reproduce: environment, all notebooks at `quick` from scratch, site and scoreboard.   test: everything CI runs.   check: a minute or two of it.
PYTHON ?= python3
VENV ?= .venv
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif

.PHONY: reproduce test check lint lab lock oldest clean
PARALLEL := --numprocesses auto --dist loadfile

reproduce: $(VENV)/.ready
	$(BIN)/nls run

test: lint
	$(BIN)/python -m pytest $(PARALLEL)

check: lint
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow"

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lab: $(VENV)/.ready
	$(BIN)/jupyter lab notebooks

$(VENV)/.ready: requirements-lock.txt pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed, found ' + sys.version)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --progress-bar off -r requirements-lock.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

# Maintainers: pin the newest versions for every platform.
lock: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet uv
	echo "setuptools>=77" | $(BIN)/uv pip compile --universal --python-version 3.11 --all-extras --upgrade --no-header \
		--no-annotate --no-emit-index-url --no-emit-find-links pyproject.toml - -o requirements-lock.txt

# Maintainers: the fast tests with the oldest versions that pyproject.toml admits, which warn of much.
oldest: export PYDEVD_DISABLE_FILE_VALIDATION = 1
oldest: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python build/oldest
	$(BIN)/uv pip install --quiet --python build/oldest --resolution lowest-direct '.[lab,report,choose,repro,docs,dask,test]'
	build/oldest/bin/python -m pytest $(PARALLEL) -m "not slow" --override-ini filterwarnings=default --disable-warnings

clean:
	rm -rf build $(VENV)
