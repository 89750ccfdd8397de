"""Which backend serves a call, and why not a better one. GMD_BACKEND=cuda|cpu|triton|reference overrides the choice."""

import functools
import os
import warnings
from collections.abc import Callable
from importlib import import_module, metadata, util
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

import torch

from gmd_kernels import gradients as reading
from gmd_kernels import native, reference
from gmd_kernels.contract import GradientKernels, NormKernels, ProjectorKernels, WeightingKernels
from gmd_kernels.gradients import Gradients

if TYPE_CHECKING:  # the type checker compares each backend with the contract
    from gmd_kernels import cpu_ops, cuda_ops, triton_ops

    _of_gradients: tuple[GradientKernels, ...] = (reference, cpu_ops, cuda_ops, triton_ops)
    _of_norms: tuple[NormKernels, ...] = (reference, cpu_ops, cuda_ops, triton_ops)
    _of_projectors: tuple[ProjectorKernels, ...] = (reference, cpu_ops, triton_ops)
    _of_weightings: tuple[WeightingKernels, ...] = (cuda_ops,)


class _Module(GradientKernels, NormKernels, ProjectorKernels, WeightingKernels, Protocol):
    """A backend's module. CUDA's has no ProjectorKernels and others no WeightingKernels: nobody asks them for these."""

    DTYPES: frozenset[torch.dtype]  # all but the reference have it

    def why_not(self, device: torch.device) -> str | None:
        """Returns why the kernels cannot serve the device, None if they can; the reference and cpu_ops do without."""


# at first use: Triton's takes a while
_load = cast("Callable[[str], _Module]", functools.cache(import_module))


class _Served(NamedTuple):
    what: str  # for messages
    usual: dict[str, tuple[str, ...]]  # device type -> backends, best first


# Triton serves the CPU too, in its interpreter, for tests that ask for it
_GRADIENTS = _Served("gradients", {"cuda": ("cuda", "triton", "reference"), "cpu": ("cpu", "reference")})
_NORMS = _Served("tensors", {"cuda": ("cuda", "triton", "reference"), "cpu": ("cpu", "reference")})
# CUDA has no kernels of its own for the projector: where GMD_BACKEND asks for it, the update goes as usual
_PROJECTORS = _Served("tensors", {"cuda": ("triton", "reference"), "cpu": ("cpu", "reference")})
_WEIGHTINGS = _Served("Gramians", {"cuda": ("cuda", "reference")})


class Backend(NamedTuple):
    """What is known of a backend on this machine.

    Attributes:
        available: whether it can serve gradients of some device.
        reason: a sentence for people: what it is, or why it is not available and what to do about that.
    """

    available: bool
    reason: str


class FallbackWarning(UserWarning):
    """A call did not go through the best backend for its device; the message says which, and what was missing."""


def backends() -> dict[str, Backend]:
    """Returns {name: Backend}: what is available on this machine, best first, and the reason for what is not."""
    return {name: kernels.find() for name, kernels in _KERNELS.items()}


def choose(gradients: Gradients) -> GradientKernels:
    """Returns the module that serves these gradients."""
    return _choose(gradients.device, lambda name: _why_not_device(name, gradients.device) or _why_not(name, gradients))


def choose_for_gram(gram: torch.Tensor) -> GradientKernels:
    """Returns the module that serves this Gramian."""
    return _choose(gram.device, lambda name: _why_not_device(name, gram.device))


def choose_for_weighting(gram: torch.Tensor) -> WeightingKernels | None:
    """Returns the module that has weightings for this Gramian; None: torch does them, on any device but CUDA's.

    So it does where GMD_BACKEND asks for another backend. Warnings point at the caller of the weighting.
    """
    if gram.device.type != "cuda" or os.environ.get("GMD_BACKEND") not in (None, "", "cuda"):
        return None
    found: object = _choose(gram.device, lambda name: _why_not_device(name, gram.device), _WEIGHTINGS)
    return None if found is reference else cast("WeightingKernels", found)


def choose_for_norm(x: torch.Tensor) -> NormKernels:
    """Returns the module that serves group_norm_relu of this tensor; warnings point at the caller of its caller."""
    return _choose(x.device, lambda name: _why_not_device(name, x.device), _NORMS, stacklevel=4)


def choose_for_owm(projector: torch.Tensor) -> ProjectorKernels:
    """Returns the module that serves owm_update_ of this projector; warnings point at the caller of its caller."""
    cpu = _KERNELS["cpu"]
    if projector.device.type == "cpu" and not os.environ.get("GMD_BACKEND") and cpu.find().available:
        return _load(cpu.module)  # as _choose would, by a way that is short beside an update of 0.1 ms
    return _choose(projector.device, lambda name: _why_not_device(name, projector.device), _PROJECTORS, stacklevel=4)


def _choose(
    device: torch.device, why_not: Callable[[str], str | None], served: _Served = _GRADIENTS, stacklevel: int = 5
) -> _Module:
    forced = os.environ.get("GMD_BACKEND")
    if forced and forced not in _KERNELS:
        expected = " or ".join(", ".join(map(repr, _KERNELS)).rsplit(", ", 1))
        raise ValueError(f"GMD_BACKEND: expected {expected}, got {forced!r}")
    if forced == device.type == "cuda" and forced not in served.usual[forced]:
        forced = None
    tried = (forced,) if forced else served.usual.get(device.type, ("reference",))
    missing = [] if forced or device.type in served.usual else [f"there are no kernels for {device.type} {served.what}"]
    for name in tried:
        reason = why_not(name)
        if reason is None:
            if missing:
                message = f"gmd_kernels goes through {_KERNELS[name].title}: {'; '.join(missing)}"
                warnings.warn(message, FallbackWarning, stacklevel=stacklevel)
            return _load(_KERNELS[name].module)
        missing.append(reason)
    raise RuntimeError(f"GMD_BACKEND={forced} cannot serve this call: {missing[0]}")


def _why_not_device(name: str, device: torch.device) -> str | None:
    kernels = _KERNELS[name]
    if name == "cuda" and device.type == "cuda":  # asks this GPU alone: a question takes memory on each
        reason = _why_not_gpu(kernels.module, device)
        return reason and f"{kernels.title} are not available: {reason}"
    found = kernels.find()
    if not found.available:
        return f"{kernels.title} are not available: {found.reason}"
    if name == "reference":
        return None
    if name == "cpu":
        return None if device.type == "cpu" else f"{kernels.title} are for tensors on the CPU, not on {device}"
    return _why_not_gpu(kernels.module, device)


def _why_not(name: str, gradients: Gradients) -> str | None:
    """Returns what keeps these gradients from kernels that serve their device."""
    if name == "reference":
        return None
    kernels = _KERNELS[name]
    served = _load(kernels.module).DTYPES
    if not gradients.dtypes <= served:
        names = ", ".join(sorted(str(d) for d in gradients.dtypes - served))
        return f"{kernels.title} serve float32, bfloat16, float16 and float64, some gradients are {names}"
    # without the C++ part, which tells the two apart, all are taken for ordinary
    ordinary = gradients.native is not None or (reading._C is None and name == "triton")
    return None if ordinary else "some gradients are no ordinary tensors"


@functools.cache
def _why_not_gpu(module: str, device: torch.device) -> str | None:
    try:
        return _load(module).why_not(device)
    except ImportError as error:
        return f"{module} does not load: {error}"


def _why_not_any(device: torch.device) -> str | None:
    try:
        return _why_not_gpu("gmd_kernels.cuda_ops", device)
    except RuntimeError as error:  # of torch's: no memory left on this GPU, or somebody else has it to himself
        return str(error)


@functools.cache
def _find_cuda() -> Backend:
    if not torch.cuda.is_available():
        return Backend(False, "no GPU in this machine")
    reasons = [_why_not_any(torch.device("cuda", i)) for i in range(torch.cuda.device_count())]
    if None in reasons:
        return Backend(True, f"C++/CUDA kernels for {torch.cuda.get_device_name(reasons.index(None))}")
    return Backend(False, "; ".join(dict.fromkeys(reason for reason in reasons if reason is not None)))


@functools.cache
def _find_triton() -> Backend:
    """Looks for Triton without loading it, which takes a while."""
    if util.find_spec("triton") is None:
        return Backend(False, "triton is not installed; torch's packages for GPUs bring it")
    version = f"Triton {_version_of('triton', 'pytorch-triton')}"
    if os.environ.get("TRITON_INTERPRET") == "1":
        return Backend(True, f"{version} in its interpreter, for tests on the CPU with GMD_BACKEND=triton")
    if not torch.cuda.is_available():
        return Backend(False, f"no GPU in this machine ({version} is installed)")
    return Backend(True, f"{version} for GPUs")


def _version_of(*names: str) -> str:
    """Returns the version of a package that is there, whatever it was installed as: nightly builds have other names."""
    for name in names:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "of unknown version"


@functools.cache
def _find_cpu() -> Backend:
    if native.compiled is None:
        return Backend(False, native.why_not)
    try:
        isa = native.compiled.cpu_isa()
    except ValueError as error:  # GMD_CPU_ISA names none
        return Backend(False, str(error))
    folder = Path(native.compiled.__file__).parent
    whose = "" if folder == Path(__file__).parent else f", of the copy installed in {folder.parent}"
    return Backend(True, f"C++ kernels for gradients on the CPU ({isa}){whose}")


class _Kernels(NamedTuple):
    title: str
    module: str
    find: Callable[[], Backend]


_KERNELS = {
    "cuda": _Kernels("the CUDA kernels", "gmd_kernels.cuda_ops", _find_cuda),
    "cpu": _Kernels("the C++ kernels", "gmd_kernels.cpu_ops", _find_cpu),
    "triton": _Kernels("the Triton kernels", "gmd_kernels.triton_ops", _find_triton),
    "reference": _Kernels(
        "the slow PyTorch reference",
        reference.__name__,
        lambda: Backend(True, "plain PyTorch, any device and floating type"),
    ),
}
