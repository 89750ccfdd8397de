# make venv | demo | test | lint | bench. Everything happens in .venv; nothing else on the machine is changed.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

NATIVE  := $(wildcard csrc/*.h csrc/*.cpp csrc/*/*.h csrc/*/*.inl csrc/*/*.cpp)
SOURCES := gmd gmd_kernels bench tests setup.py

.PHONY: venv demo test lint format bench readme clean

venv: $(STAMP)

# torch comes first and pinned: the build needs it, and pip must not fetch another into an isolated environment.
$(STAMP): pyproject.toml setup.py constraints.txt $(NATIVE)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt torch numpy setuptools ninja pybind11
	$(BIN)/python -m pip install -q -c constraints.txt --no-build-isolation -e '.[dev]'
	touch $@

# The whole way, small: synthetic cases, 112 steps of surgery on 15 objectives, all 15 subsets scored on held-out cases.
DEMO := runs/demo
demo: venv
	rm -rf $(DEMO)
	$(BIN)/gmd phantom $(DEMO)/phantoms --cases 24 --shape 48 48 48 --seed 0
	$(BIN)/gmd train brats --data $(DEMO)/phantoms --out $(DEMO) --method gmd --width 0.25 --patch 32 32 32 \
		--epochs 8 --steps-per-epoch 14 --lr 0.01 --validate-every 2
	$(BIN)/gmd evaluate $(DEMO)
	@$(BIN)/python tests/check_demo.py $(DEMO)
	@echo "Pictures: $(DEMO)/curves.png $(DEMO)/cosines.png $(DEMO)/evaluation/case.png"

# What `make demo` and `make bench` left behind, into the README.
readme: venv
	cp runs/demo/evaluation/table.csv runs/demo/evaluation/table.md runs/demo/evaluation/case.png \
		runs/demo/curves.png runs/demo/cosines.png docs/demo/
	$(BIN)/python -m bench.readme

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
