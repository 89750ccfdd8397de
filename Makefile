# make venv | demo | test | slow | docs | docs-serve | compat | sanitize | lint | bench | gpu
# Everything happens in .venv and build; nothing else on the machine is changed.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

SHIM    := $(wildcard tests/environment/torchvision_operators.*)
NATIVE  := $(wildcard csrc/*.h csrc/*.cpp csrc/*/*.h csrc/*/*.inl csrc/*/*.cpp csrc/cuda/*/*.h csrc/cuda/*/*.cpp)
WRITTEN := $(NATIVE) $(wildcard $(foreach folder,csrc/cuda csrc/cuda/*,$(folder)/*.cu $(folder)/*.cuh) tests/helpers/cuda/*.h tests/helpers/cuda/*.cpp)
SOURCES := gmd gmd_kernels examples bench gpu tests docs setup.py

.PHONY: venv demo test slow docs docs-serve compat sanitize lint format bench gpu readme clean

venv: $(STAMP)

# torch comes first and pinned: the build needs it, and pip must not fetch another into an isolated environment.
# panoptica is published as sources only and brings what builds it: built by itself, as no isolation would find none.
# Last what lets PyPI's torchvision, which comes with nnU-Net, be imported beside a torch for the CPU.
$(STAMP): pyproject.toml setup.py constraints.txt $(NATIVE) $(SHIM)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt torch numpy setuptools ninja pybind11
	$(BIN)/python -m pip uninstall -qq -y gmd  # the package's earlier name
	$(BIN)/python -m pip install -q -c constraints.txt panoptica
	$(BIN)/python -m pip install -q -c constraints.txt --no-build-isolation -e '.[dev]'
	cp $(SHIM) "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
	touch $@

# The whole way, small: synthetic cases, 112 steps of surgery on 15 objectives, all 15 subsets scored on held-out cases.
# Then sequences of text, audio and vision with a sentiment: 7 objectives.
DEMO := runs/demo
CASE := $(DEMO)/phantoms/Phantom_000_00000/Phantom_000_00000
demo: venv
	rm -rf $(DEMO)
	$(BIN)/gmd phantom $(DEMO)/phantoms --cases 24 --shape 48 48 48 --seed 0
	$(BIN)/gmd train brats --data $(DEMO)/phantoms --out $(DEMO) --method gmd --width 0.25 --patch 32 32 32 \
		--epochs 8 --steps-per-epoch 14 --lr 0.015 --validate-every 2
	$(BIN)/gmd evaluate $(DEMO)
	$(BIN)/gmd predict $(DEMO) --flair $(CASE)_flair.nii.gz --t1 $(CASE)_t1.nii.gz --out $(DEMO)/seg.nii.gz
	$(BIN)/gmd phantom $(DEMO)/sentiment.npz --task sentiment
	$(BIN)/gmd train sentiment --data $(DEMO)/sentiment.npz --out $(DEMO)/sentiment --method gmd --epochs 25 --validate-every 5
	$(BIN)/gmd evaluate $(DEMO)/sentiment --missing 0.3
	@$(BIN)/python tests/check_demo.py $(DEMO)
	@echo "Reports, to be opened in a browser: $(DEMO)/report.html $(DEMO)/sentiment/report.html"

# What `make demo` and `make bench` left behind, into the README.
readme: venv
	cp runs/demo/evaluation/table.csv runs/demo/evaluation/table.md runs/demo/evaluation/case_median.png \
		runs/demo/curves.png runs/demo/cosines.png docs/demo/
	$(BIN)/python -m bench.tables.readme

# On one thread each: tensors of test size are slower on several. A worker that dies, or is ended after ten minutes in
# one test, ends the run with that test's name; pytest-xdist would start another and may then wait for ever.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder \
	--max-worker-restart 0 -o faulthandler_timeout=600 -o faulthandler_exit_on_timeout=true

# What a developer runs before each commit, in six minutes or so on two cores.
test: venv
	$(PYTEST)

# The rest: nvcc, Triton's compiler and more of its interpreter, the emulator at size, processes that are killed, whole
# commands, the documentation's blocks, a browser. One test of it takes 11 GB of memory.
slow: venv
	$(PYTEST) -m "slow and not interpreted"

# The pages of docs/ and of the API as a site in build/site; a warning is an error. The notice is of mkdocs' successor.
docs: venv
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build
	@echo "The site: build/site/index.html"

docs-serve: venv
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve --open

# An environment for each version of torch, with Pythons from 3.10 to 3.13: built from the archive of the sources, a short
# suite, trainings. Builds of torch for the CPU, 200 MB each.
compat: venv
	$(BIN)/python -m bench.compat

# The kernels under AddressSanitizer and UndefinedBehaviorSanitizer, in a build of their own. What they need comes first
# into a process that they know nothing of, and libstdc++ with it, so that torch's exceptions pass through them.
SANITIZED := build/sanitized
PRELOAD   := libasan.so libubsan.so libstdc++.so
sanitize: venv
	GMD_SANITIZE=1 $(BIN)/python setup.py -q build --build-base $(SANITIZED) --build-lib $(SANITIZED)/lib
	PYTHONPATH=$(SANITIZED)/lib PYTHONSAFEPATH=1 OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive \
		LD_PRELOAD="$(foreach library,$(PRELOAD),$(shell $(CXX) -print-file-name=$(library)))" \
		ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
		$(BIN)/python -m pytest -s -p no:cacheprovider -k "not reference" $(filter-out %_memory.py,$(wildcard $(addprefix tests/kernels/test_,kernel*.py group_norm_relu*.py owm_update*.py sketch.py)))

lint: venv
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/clang-format --dry-run --Werror $(WRITTEN)
	$(BIN)/mypy

format: venv
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/clang-format -i $(WRITTEN)

bench: venv
	$(BIN)/python -m bench.run
	$(BIN)/python -m bench.measure.numerics
	$(BIN)/python -m bench.tables.plot

# All that needs a GPU, with python3 as it is there: no .venv, no network; PART=1 or PART=2 for half of it. The same
# without make: python3 -m gpu dir --part 1. docs/gpu.md tells what is measured and what is not.
gpu:
	@test -n "$(OUT)" || { echo "where to? make gpu OUT=dir" >&2; exit 2; }
	@$(PYTHON) -m gpu "$(OUT)" $(if $(PART),--part "$(PART)")

clean:
	rm -rf build dist *.egg-info gmd_kernels/*.so gmd_kernels/build_info.json $(VENV)
