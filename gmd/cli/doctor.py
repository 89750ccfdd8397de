"""`gmd doctor`: what this installation can do, what it cannot, why, and what to do about it. Needs torch alone."""

import os
import platform
import re
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path

import torch

import gmd_kernels as gk
from gmd import __version__, threads
from gmd.cli import extras
from gmd.printing import say


def main() -> int:
    """Prints the report; 0 if the kernels and the training stack are complete, 1 otherwise."""
    say(f"gmd {__version__}, Python {platform.python_version()}, {platform.machine()}")
    say(f"torch {torch.__version__}, {_gpus()}", "")
    _report_threads()
    # all of them, whatever the first one says
    complete = [_report_kernels(), _report_extras(), _report_nnunet(), _report_results()]
    return 0 if all(complete) else 1


def _report_threads() -> None:
    """Prints how many threads torch takes and why, how they wait, and what a program of the user's own has to set."""
    machine, busy = threads.machine(), threads.busy_cpus()
    say("Threads:")
    count = torch.get_num_threads()
    say(f"  {threads.about_count(count, machine, os.environ)}")
    say(f"  {threads.about_waiting(count, os.environ)}; {openmp_runtimes()}")
    say(f"  others keep {busy} of these CPUs busy at present")
    say(f"  a program of your own sets this before it loads torch: {threads.advice(machine, busy)}", "")


def openmp_runtimes(maps: Path = Path("/proc/self/maps")) -> str:
    """Says which OpenMP libraries are loaded into this process. maps: where Linux lists what a process has loaded."""
    if not maps.exists():
        return "this system does not tell which OpenMP library torch uses"
    found = sorted(
        set(re.findall(r"/(lib(?:gomp|iomp5|omp)\b[^/\s]*)$", maps.read_text(encoding="utf-8"), re.MULTILINE))
    )
    return f"OpenMP by {' and '.join(found)}" if found else "torch has loaded no OpenMP library"


def _report_kernels() -> bool:
    """Prints which backends are there, and returns whether all are that this machine should have."""
    say("Kernels, best first:")
    wanted = {"cpu", "cuda", "triton"} if torch.cuda.is_available() else {"cpu"}
    backends = gk.backends()
    for name, backend in backends.items():
        absent = "MISSING" if name in wanted else "-      "
        say(f"  {'ok     ' if backend.available else absent} {name}: {backend.reason}")
    return all(backend.available for name, backend in backends.items() if name in wanted)


def _report_extras() -> bool:
    """Prints which optional packages are there, and returns whether those of training are."""
    say("", "Extras:")
    for extra, packages in extras.EXTRAS.items():
        if absent := extras.missing(extra):
            say(f"  MISSING {extra}: {extras.advice(absent)}")
        else:
            names = [package.partition(">")[0] for package in packages.values()]
            say(f"  ok      {extra}: {', '.join(f'{name} {_version(name)}' for name in names)}")
    if other := other_gmd():
        say(f"  {other}")
    say("")
    return not extras.missing("train")


def _report_nnunet() -> bool:
    """Prints whether nnU-Net, if it is installed, can train and predict with the trainers of gmd; returns that."""
    if util.find_spec("nnunetv2") is None:
        return True
    from gmd.nnunet.installation import trouble  # it needs no more than torch

    wrong = trouble()
    say(f"nnU-Net {_version('nnunetv2')}: {wrong or 'can be used, see gmd nnunet setup'}", "")
    return wrong is None


def _version(package: str) -> str:
    """Returns the version of a package that can be imported, whether or not it was installed under its usual name."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "of unknown version"


def other_gmd() -> str | None:
    """Says what to do if pip has installed a distribution `gmd` too; None if not. Ours is called gmd-surgery."""
    # what pip installs has a list of files, RECORD; what a build leaves in a source tree has none
    found = [d for d in metadata.distributions(name="gmd") if any(file.name == "RECORD" for file in d.files or ())]
    if not found:
        return None
    return (
        f"also installed: gmd {found[0].version}, an earlier name of this package, or somebody else's with the same "
        "folder gmd/; take it away: pip uninstall gmd, then install this one again"
    )


def _report_results() -> bool:
    """Prints whether each backend computes what it should on each device, and returns whether all do."""
    right = True
    for device, backend in _devices_and_backends():
        wrong = what_is_wrong(device, backend)
        right &= wrong is None
        answer, why = ("yes", "") if wrong is None else ("NO", f": {wrong}")
        say(f"The kernels compute what they should: {answer}, on {_title(device)} through {backend}{why}")
    return right


def _gpus() -> str:
    """Returns the names of the GPUs."""
    if not torch.cuda.is_available():
        return "no GPU"
    return ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))


def _devices_and_backends() -> Iterator[tuple[torch.device, str]]:
    """Yields each device with each available backend that is meant for it."""
    gpus = [torch.device("cuda", i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    for device in (torch.device("cpu"), *gpus):
        meant = ("cpu", "reference") if device.type == "cpu" else ("cuda", "triton", "reference")
        yield from ((device, name) for name, backend in gk.backends().items() if backend.available and name in meant)


def _title(device: torch.device) -> str:
    """Returns what the report calls a device."""
    return "the CPU" if device.type == "cpu" else f"{device} ({torch.cuda.get_device_name(device)})"


def what_is_wrong(device: torch.device, backend: str) -> str | None:
    """Returns what is wrong with the surgery on a device through a backend, in a line; None if its result is right.

    The gradients are two opposite ones and one across, of which the merged gradient is known, whatever the order.
    """
    rows = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 3.0]])
    before = os.environ.get("GMD_BACKEND")
    os.environ["GMD_BACKEND"] = backend
    try:
        [merged], _ = gk.surgery([[row.to(device)] for row in rows])
        assert merged is not None, "a parameter that every gradient reaches"
        found = merged.cpu()
    except Exception as error:  # a compiler's, a driver's, an import's: whatever it is, the report goes on
        return f"{type(error).__name__}: {error}"
    finally:
        if before is None:
            del os.environ["GMD_BACKEND"]
        else:
            os.environ["GMD_BACKEND"] = before
    right = torch.allclose(found, torch.tensor([0.0, 1.0]))
    return None if right else f"expected [0, 1], got {found.tolist()}"
