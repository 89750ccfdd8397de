"""Which backend serves a call, and why not another. `GMD_BACKEND=reference|cpu` overrides the choice."""

import json
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import torch

from gmd_kernels import reference

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
    if cpu_ops is not None:
        cpu = Backend(True, f"C++ kernels for float32 gradients on the CPU ({cpu_ops._C.cpu_isa()})")
    else:
        cpu = Backend(False, _why_no_cpu())
    return {"cpu": cpu, "reference": Backend(True, "plain PyTorch, any device and floating type")}


def choose(device: torch.device, dtypes: Iterable[torch.dtype]) -> ModuleType:
    """The module that serves gradients of these types on this device."""
    missing = _why_not_cpu_ops(device, set(dtypes))
    forced = os.environ.get("GMD_BACKEND")
    if forced not in (None, "", "cpu", "reference"):
        raise ValueError(f"GMD_BACKEND: expected 'cpu' or 'reference', got {forced!r}")
    if forced == "reference":
        return reference
    if missing is None:
        return cpu_ops
    if forced == "cpu":
        raise RuntimeError(f"GMD_BACKEND=cpu cannot serve this call: {missing}")
    warnings.warn(f"gmd_kernels goes through the slow PyTorch reference: {missing}", FallbackWarning, stacklevel=3)
    return reference


def _why_not_cpu_ops(device: torch.device, dtypes: set[torch.dtype]) -> str | None:
    if device.type != "cpu":
        return f"there are no kernels for {device.type} gradients yet"
    if cpu_ops is None:
        return f"the C++ kernels are not available: {_why_no_cpu()}"
    if not dtypes <= cpu_ops.DTYPES:
        names = ", ".join(sorted(str(d) for d in dtypes - cpu_ops.DTYPES))
        return f"the C++ kernels serve float32, some gradients are {names}"
    return None


def _why_no_cpu() -> str:
    info = Path(__file__).with_name("build_info.json")
    built = json.loads(info.read_text())["cpu"] if info.exists() else "gmd_kernels was not installed with pip"
    if built == "built":
        return f"gmd_kernels._C was built but does not load ({_cpu_missing}); was torch changed since? Install again"
    return built
