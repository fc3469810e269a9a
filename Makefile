# Every target sets up what it needs. On a fresh machine: make demo, make test.
PYTHON ?= python3
BIN := .venv/bin
export HF_HUB_OFFLINE ?= 1

.PHONY: demo test e2e lint bench docs clean

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet "torch==2.13.0"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[align,captum,serve]" --group dev
	touch $@

demo: .venv/installed
	$(BIN)/safetylayers demo

# The gateway's tests measure time, so they run alone; the others share the cores.
test: .venv/installed
	$(BIN)/python -m pytest tests/oversee --cov --cov-report= --cov-fail-under=0
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --ignore=tests/oversee --numprocesses=auto --dist=loadfile \
		--cov --cov-append --cov-report=term

e2e: .venv/installed
	$(BIN)/python e2e/run.py

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/installed
	$(BIN)/python benchmarks/locate.py
	$(BIN)/python benchmarks/attach.py
	$(BIN)/python benchmarks/gateway.py

docs: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group docs
	$(BIN)/mkdocs build --strict

clean:
	rm -rf .venv site safetylayers-demo
