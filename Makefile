# Everything a newcomer needs: `make demo` and `make test` set themselves up on a fresh machine.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
JOBS ?= 2
OUT ?= demo-out
EGO_EXO4D_OUT ?= ego-exo4d-out
STEPS ?= 300
HEIGHT ?= 720
SECONDS_PER_TAKE ?= 6
INPUTS ?= 1000000

.PHONY: help setup demo test lint types bench docs wheel licences release-check matrix fuzz kills clean

help:
	@echo "make demo   set up, then predict, triangulate and evaluate on embedded captures and write the pages"
	@echo "make test   set up, then run the tests"
	@echo "make ego-exo4d   the dataset's whole way on a stand-in: videos, labels, training, submissions, scores"
	@echo "make lint   style, types, import rules      make bench  benchmarks against named peers"
	@echo "make docs   tables, pictures and the site   make wheel  build, install and test the wheel"
	@echo "make release-check   licences, vulnerabilities and bill of materials of the dependency tree"
	@echo "make matrix          install with the oldest and newest dependencies on every Python found here"

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -q --upgrade pip
	$(PIP) install -q -c constraints.txt -e '.[dev]'
	@# the GUI wheel of OpenCV needs libGL; without it the headless one serves as well
	@$(BIN)/python -c 'import cv2' 2>/dev/null || \
	  { $(PIP) uninstall -q -y opencv-python; $(PIP) install -q -c constraints.txt --force-reinstall --no-deps opencv-python-headless; }
	@touch $@

demo: setup
	$(BIN)/egopose demo --out $(OUT)

# some 20 minutes on two cores; STEPS=, HEIGHT= and SECONDS_PER_TAKE= make it longer or shorter
ego-exo4d: setup
	$(BIN)/egopose weights fetch
	$(BIN)/python tools/ego_exo4d.py $(EGO_EXO4D_OUT) --steps $(STEPS) --height $(HEIGHT) --seconds $(SECONDS_PER_TAKE)

test: setup
	$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python tools/bench.py

docs: setup
	$(BIN)/python tools/bench.py --tables-only
	$(BIN)/python tools/screenshots.py
	$(BIN)/python -m sphinx -q -E -W --keep-going docs site
	@echo "site/index.html: open it in a browser"

wheel: setup
	$(BIN)/python tools/check_wheel.py

licences: setup
	$(BIN)/python tools/release_check.py --licences-only

# the two programs live apart, so that they are not part of what they check
$(VENV)/release/bin/pip-audit: | setup
	$(PYTHON) -m venv $(VENV)/release
	$(VENV)/release/bin/python -m pip install -q 'pip-audit>=2.10' 'cyclonedx-bom>=7.5'

release-check: $(VENV)/release/bin/pip-audit
	$(BIN)/python tools/release_check.py --tools $(VENV)/release/bin

matrix:
	$(PYTHON) tools/install_matrix.py

fuzz: setup
	@# inputs are guided by coverage where atheris has a wheel, else damaged blindly
	@$(PIP) install -q 'atheris>=3' || echo "atheris is not to be had here: inputs are not guided"
	$(BIN)/python tools/fuzz.py --inputs $(INPUTS)

kills: setup
	$(BIN)/python tools/kills.py

clean:
	rm -rf build dist *.egg-info $(OUT) $(EGO_EXO4D_OUT) .pytest_cache .mypy_cache .ruff_cache
	@# compiled kernels do not notice an edited kernel file that they call
	rm -f kernels/__pycache__/*.nb[ic]
