"""Where a torch comes from: builds for the CPU first, which are a tenth of the others' size."""

import json
import subprocess
import zipfile
from collections.abc import Sequence
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
ANSWERS = 10.0  # seconds that an index has
FOUND_ON_DISK, FROM_CPU_INDEX, ANY = "CPU wheel on disk", "CPU index", "PyPI"


def sources(python: Path, torch: str, folder: Path, any_build: bool) -> tuple[str, list[str]] | None:
    """Returns where a build of torch comes from, and pip's arguments for it; None: no build for the CPU can be had.

    python: of the environment; torch: a minor version; folder: for a wheel that pip finds on a disk
    any_build: whether to take PyPI's build, several GB with CUDA's libraries, where there is none for the CPU
    """
    wanted = f"torch=={torch}.*"
    if reachable(CPU_INDEX):
        return FROM_CPU_INDEX, [wanted, "--index-url", CPU_INDEX]
    if wheel := _on_disk(python, wanted, folder):
        return FOUND_ON_DISK, [str(wheel)]
    return (ANY, [wanted]) if any_build else None


def reachable(index: str) -> bool:
    """Whether an index answers."""
    try:
        with urlopen(Request(f"{index}/torch/", method="HEAD"), timeout=ANSWERS):
            return True
    except (URLError, TimeoutError, OSError):
        return False


def _on_disk(python: Path, wanted: str, folder: Path) -> Path | None:
    """Returns a wheel for the CPU among those that pip's own configuration names folders of."""
    command = [str(python), "-m", "pip", "download", "-q", "--no-deps", "--no-index", "-d", str(folder), wanted]
    subprocess.run(command, capture_output=True, check=False)
    return next((wheel for wheel in sorted(folder.glob("torch-*.whl")) if needs_no_cuda(wheel)), None)


def needs_no_cuda(wheel: Path) -> bool:
    """Whether a wheel asks for none of NVIDIA's packages."""
    with zipfile.ZipFile(wheel) as archive:
        [metadata] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        lines = archive.read(metadata).decode().split("\n\n", 1)[0].splitlines()
    return not any(line.startswith(("Requires-Dist: nvidia", "Requires-Dist: cuda")) for line in lines)


def what_came(python: Path, packages: Sequence[str] = ("torch", "numpy", "monai")) -> dict[str, str]:
    """Returns the versions that an environment has, and of which kind its torch is: "CPU" or "CUDA 13.0".

    Raises subprocess.CalledProcessError, with what was printed, for a torch that cannot be imported.
    """
    tell = (
        "import json, torch; from importlib.metadata import version;"
        f"found = {{name: version(name) for name in {tuple(packages)!r}}};"
        "found['build'] = 'CPU' if torch.version.cuda is None else f'CUDA {torch.version.cuda}';"
        "print(json.dumps(found))"
    )
    done = subprocess.run([python, "-c", tell], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])
