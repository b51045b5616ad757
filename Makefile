# What a newcomer types. Everything lives in .venv; nothing else of the machine is touched.
PYTHON ?= python3
CORES ?= all
# For a machine without an NVIDIA GPU: make install TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
BIN := .venv/bin
SNAKEMAKE := $(BIN)/snakemake --cores $(CORES) --quiet host rules

.PHONY: install demo real check test test-all bench clean
.DELETE_ON_ERROR:

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(if $(TORCH_INDEX),$(BIN)/pip install --quiet --index-url $(TORCH_INDEX) "$$(grep '^torch==' constraints.txt)")
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: install
	$(BIN)/ctssl phantom data/demo --scans 24 --spacing-mm 2 --slice-mm 3
	$(SNAKEMAKE) --configfile config/demo.yaml
	$(BIN)/ctssl show --results results/demo

real: install results/demo/runs/context-aware/seed0/all/model.safetensors
	$(BIN)/ctssl samples data/real
	$(SNAKEMAKE) --configfile config/real.yaml
	$(BIN)/ctssl show --results results/real

results/demo/runs/context-aware/seed0/all/model.safetensors:
	$(MAKE) demo

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/mypy
	$(BIN)/snakemake --lint --configfile tests/workflow/lint.yaml

test: install
	$(BIN)/pytest --numprocesses 2 --dist loadgroup -m "not slow"

test-all: install
	$(BIN)/pytest --numprocesses 2 --dist loadgroup

bench: install
	$(BIN)/ctssl bench dag --scans 1000

clean:
	rm -rf .venv data results .snakemake
