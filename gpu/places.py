"""Where the stages build and find what was built."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "gpu"
LIBRARY = BUILD / "lib"  # what every stage imports gmd_kernels from
SITE = BUILD / "site"  # packages out of WHEELS
WHEELS = ROOT / "wheels"  # packages that this machine lacks; git ignores the folder
BUILT = "built"  # the folder of modules built before, in ROOT and among the results; git ignores it
