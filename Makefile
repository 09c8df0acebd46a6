# make paper: every result on MNIST at full size, and RESULTS.md (INTRIGUING_DATA names the data).
# make run: tables 1 and 2 on the embedded digits, into runs/digits. make test: lint, then all tests.
# make faults: kills, full disks, damaged files, hostile input, all of it.
# make core: the wheel in a clean environment. make docs: the documentation, into docs/_build/html, with every block and notebook on it run.
# Another Python: make run PYTHON=python3.12. Another place for it: VENV=/tmp/venv.

PYTHON ?= python3
VENV ?= .venv

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

PAPER := mnist_cross_model mnist_cross_training_set mnist_units mnist_adversarial_training \
  mnist_lipschitz
QUICK ?=

# What is tested from the wheel: first with what the attack needs and nothing else, then with all.
CORE := build/core
NEEDS_ALL := attack/engine_test.py attack/minimal_test.py solver/batched_lbfgsb_test.py keys_test.py \
  identity_test.py sharding_test.py
# Without the project's pyproject.toml, which would put the sources before the wheel.
TEST_CORE := venv/bin/python -m pytest -c /dev/null --rootdir=. -n 2 --dist loadfile \
  -o python_files='*_test.py' -q
BARE := attack solver predict_test.py progress_test.py metrics_test.py

.PHONY: run test core docs paper faults clean

run: $(VENV)/run.stamp
	$(BIN)/python launch.py --config=configs/digits.py --workdir=runs/digits

test: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# Everything that a run must survive, in full: more than an hour; it prints the table of RELIABILITY.md.
faults: $(VENV)/test.stamp
	INTRIGUING_FAULTS=all $(BIN)/python -m pytest tests/faults

# Both distributions, in a clean environment of their own: make core PYTHON=python3.13
core:
	rm -rf $(CORE) && mkdir -p $(CORE)
	$(PYTHON) -m venv $(CORE)/venv
	$(CORE)/venv/bin/python -m pip install --quiet build pytest pytest-xdist
	$(CORE)/venv/bin/python -m build --outdir $(CORE)/dist . > $(CORE)/build.log
	$(CORE)/venv/bin/python -m pip install --quiet $(CORE)/dist/*.whl
	cp -r tests $(CORE)/
	cd $(CORE) && $(TEST_CORE) \
	  $(NEEDS_ALL:%=--ignore=tests/%) $(BARE:%=tests/%)
	wheel=$$(echo $(CORE)/dist/*.whl) && $(CORE)/venv/bin/python -m pip install --quiet "$$wheel[all]"
	cd $(CORE) && $(TEST_CORE) \
	  $(NEEDS_ALL:%=tests/%)

docs: $(VENV)/docs.stamp
	$(BIN)/python -m sphinx -b html -W --keep-going docs docs/_build/html
	$(BIN)/python -m pytest -p no:cacheprovider docs/site_test.py docs/blocks_test.py

# Hours on two cores; interrupted, the same command goes on. make paper QUICK=:quick takes minutes.
paper: $(VENV)/run.stamp
	set -e; for name in $(PAPER); do \
	  $(BIN)/python launch.py --config=configs/$$name.py$(QUICK) --workdir=runs/$$name$(subst :,-,$(QUICK)); \
	done
	$(BIN)/python -m intriguing.report.results_page $(PAPER:%=runs/%$(subst :,-,$(QUICK)))

# The stamps say what was installed, so that it happens once, and again when a list changes.
$(VENV)/run.stamp: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -r requirements.txt
	@touch $@

$(VENV)/test.stamp: requirements-dev.txt $(VENV)/run.stamp
	$(PIP) -r requirements-dev.txt
	@touch $@

$(VENV)/docs.stamp: requirements-docs.txt $(VENV)/test.stamp
	$(PIP) -r requirements-docs.txt
	@touch $@

# What was computed (runs/) stays.
clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache build *.egg-info docs/_build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
