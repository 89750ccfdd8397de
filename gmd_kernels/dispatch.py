"""Which backend serves a call, and why not another. `GMD_BACKEND=reference|cpu` overrides the choice."""

import json
import os
import warnings
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import torch

from gmd_kernels import reference
from gmd_kernels.gradients import Gradients

try:
    from gmd_kernels import cpu_ops

    _cpu_missing = None
except ImportError as error:
    cpu_ops = None
    _cpu_missing = error


class Backend(NamedTuple):
    available: bool
    reason: str


class FallbackWarning(UserWarning):
    """A call went through the slow PyTorch reference; the message says what was missing."""


def backends() -> dict[str, Backend]:
    """What is available on this machine, best first, and the reason for what is not."""
    return {"cpu": _cpu_backend(), "reference": Backend(True, "plain PyTorch, any device and floating type")}


def choose(gradients: Gradients) -> ModuleType:
    """The module that serves these gradients."""
    return _choose(_why_not_cpu_ops(gradients.device) or _why_not_native(gradients))


def choose_for_gram(gram: torch.Tensor) -> ModuleType:
    """The module that serves this Gramian."""
    return _choose(_why_not_cpu_ops(gram.device))


def _choose(missing: str | None) -> ModuleType:
    """The C++ kernels unless something is `missing` for them."""
    forced = os.environ.get("GMD_BACKEND")
    if forced not in (None, "", "cpu", "reference"):
        raise ValueError(f"GMD_BACKEND: expected 'cpu' or 'reference', got {forced!r}")
    if forced == "reference":
        return reference
    if missing is None:
        return cpu_ops
    if forced == "cpu":
        raise RuntimeError(f"GMD_BACKEND=cpu cannot serve this call: {missing}")
    warnings.warn(f"gmd_kernels goes through the slow PyTorch reference: {missing}", FallbackWarning, stacklevel=5)
    return reference


def _why_not_cpu_ops(device: torch.device) -> str | None:
    if device.type != "cpu":
        return f"there are no kernels for {device.type} gradients yet"
    cpu = _cpu_backend()
    return None if cpu.available else f"the C++ kernels are not available: {cpu.reason}"


def _why_not_native(gradients: Gradients) -> str | None:
    if not gradients.dtypes <= cpu_ops.DTYPES:
        names = ", ".join(sorted(str(d) for d in gradients.dtypes - cpu_ops.DTYPES))
        return f"the C++ kernels serve float32, bfloat16, float16 and float64, some gradients are {names}"
    return None if gradients.native is not None else "some gradients are no ordinary tensors"


def _cpu_backend() -> Backend:
    if cpu_ops is None:
        return Backend(False, _why_no_cpu())
    try:
        return Backend(True, f"C++ kernels for gradients on the CPU ({cpu_ops._C.cpu_isa()})")
    except ValueError as error:  # GMD_CPU_ISA names none
        return Backend(False, str(error))


def _why_no_cpu() -> str:
    info = Path(__file__).with_name("build_info.json")
    built = json.loads(info.read_text())["cpu"] if info.exists() else "gmd_kernels was not installed with pip"
    if built == "built":
        return f"gmd_kernels._C was built but does not load ({_cpu_missing}); was torch changed since? Install again"
    return built
