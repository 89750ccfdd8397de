# make venv | demo | test | lint | bench. Everything happens in .venv; nothing else on the machine is changed.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

NATIVE  := $(wildcard csrc/*.h csrc/*.cpp csrc/*/*.h csrc/*/*.inl csrc/*/*.cpp)
SOURCES := gmd gmd_kernels bench tests setup.py

.PHONY: venv demo test lint format bench clean

venv: $(STAMP)

# torch comes first and pinned: the build needs it, and pip must not fetch another into an isolated environment.
$(STAMP): pyproject.toml setup.py constraints.txt $(NATIVE)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt torch numpy setuptools ninja pybind11
	$(BIN)/python -m pip install -q -c constraints.txt --no-build-isolation -e '.[dev]'
	touch $@

demo: venv
	$(BIN)/python -m gmd.demo runs/demo

test: venv
	$(BIN)/python -m pytest

lint: venv
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/clang-format --dry-run --Werror $(NATIVE)

format: venv
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/clang-format -i $(NATIVE)

bench: venv
	$(BIN)/python -m bench.run
	$(BIN)/python -m bench.plot

clean:
	rm -rf build dist *.egg-info gmd_kernels/*.so gmd_kernels/build_info.json $(VENV)
