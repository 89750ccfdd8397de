"""`python -m gpu.build FOLDER`: builds gmd_kernels with CUDA in build/gpu/lib; FOLDER/built gets the module alone.

A module that was built before is used instead where it lies in built/ of the project, fits the sources, and loads: copy
FOLDER/built there before the next run, and that run saves a minute. The folder within built/ is named after all that
the module was built from, see `fingerprint`: whatever changes there makes another name, and the module is built anew.

Only the module is built, in a folder that has setup.py and csrc/ but no pyproject.toml: setuptools before version 77
refuses this project's there, before any compiler is called.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from gpu.places import BUILD, BUILT, LIBRARY, ROOT

MODULE = "_C*.so"
SOURCES = "setup.py", "csrc"
# An installed gmd, of another checkout perhaps, may have a module too.
LOAD = """
import sys, torch, gmd_kernels._C as module
print(module.__file__, flush=True)
sys.exit(not module.__file__.startswith(sys.argv[1]))
"""
# Debug information would be most of the module, more than comes back from a machine that is lent. The linker leaves it
# out: CFLAGS would replace those that Python's own modules are compiled with.
LINKER_FLAGS = "-Wl,--strip-debug"


def main() -> int:
    """Returns 0 if the module is there and loads, else the status of what failed. The rest of gmd_kernels is there."""
    name, package = fingerprint(), lay_out_package()
    if not take_built(ROOT / BUILT / name, package):
        status = compile_module() or (0 if loads() else 1)
        if status:
            remove_module(package)
            return status
        keep(package, Path(sys.argv[1]) / BUILT / name)
    (package / "build_info.json").write_text(json.dumps({"cpu": "built", "cuda": "built"}) + "\n", encoding="utf-8")
    return 0


def fingerprint() -> str:
    """Returns 16 hexadecimal digits that stand for the sources, the version of torch, the processor and the GPU."""
    digest = hashlib.sha256()
    told = metadata.version("torch"), platform.machine(), os.environ.get("TORCH_CUDA_ARCH_LIST", "")
    digest.update("\n".join(told).encode())
    for source in SOURCES:
        files = [ROOT / source] if (ROOT / source).is_file() else sorted((ROOT / source).rglob("*"))
        for path in filter(Path.is_file, files):
            content = path.read_bytes()
            digest.update(f"\n{path.relative_to(ROOT).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def lay_out_package() -> Path:
    """Copies gmd_kernels into the library without a module, as it is where none can be built. Returns its folder."""
    package = LIBRARY / "gmd_kernels"
    shutil.rmtree(package, ignore_errors=True)
    shutil.copytree(
        ROOT / "gmd_kernels", package, ignore=shutil.ignore_patterns("*.so", "__pycache__", "build_info.json")
    )
    failed = "left out, as its build failed"
    (package / "build_info.json").write_text(json.dumps({"cpu": failed, "cuda": failed}) + "\n", encoding="utf-8")
    return package


def take_built(folder: Path, package: Path) -> bool:
    """Copies the module in `folder` into the package. Returns whether there is one, and it loads."""
    for module in folder.glob(MODULE):
        print(f"built before, from the same sources: {module}", flush=True)
        shutil.copy2(module, package)
    if any(package.glob(MODULE)):
        if loads():
            return True
        print("which does not load here, so it is built anew", flush=True)
        remove_module(package)
    return False


def compile_module() -> int:
    """Builds the module into the package. Returns the status of setup.py, which says what it lacks."""
    source = BUILD / "source"
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    for name in SOURCES:  # with the times of their last change: what was compiled of them is not compiled again
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, source / name)
    folders = ["--build-temp", str(BUILD / "temp"), "--build-lib", str(LIBRARY)]
    command = [sys.executable, "setup.py", "build_ext", *folders]
    print(f"$ {' '.join(command)}", flush=True)
    environment = {**os.environ, "LDFLAGS": f"{os.environ.get('LDFLAGS', '')} {LINKER_FLAGS}".strip()}
    return subprocess.run(command, cwd=source, env=environment, check=False).returncode


def loads() -> bool:
    """Returns whether Python loads the module in the package, in a process of its own."""
    path = os.pathsep.join([str(LIBRARY), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, "-c", LOAD, str(LIBRARY)]
    return subprocess.run(command, cwd=LIBRARY, env=environment, check=False).returncode == 0


def keep(package: Path, folder: Path) -> None:
    """Copies the module out of the package into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for module in package.glob(MODULE):
        print(f"kept as {shutil.copy2(module, folder)}", flush=True)


def remove_module(package: Path) -> None:
    for module in package.glob(MODULE):
        module.unlink()


if __name__ == "__main__":
    sys.exit(main())
