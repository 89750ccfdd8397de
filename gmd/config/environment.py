"""Variables of the environment that narrow what computes or is read, checked before there is anything to compute."""

import os

import torch

import gmd_kernels
from gmd.errors import UserError
from gmd.memory_limit import most_bytes

INSTRUCTION_SETS = ("generic", "avx2", "avx512")


def check_environment(device: torch.device) -> None:
    """Raises UserError if GMD_BACKEND or GMD_CPU_ISA ask for what there is not, or not for this device.

    And if GMD_MAX_GB is no number that it could be.
    Without it the first call of a kernel would raise ValueError or RuntimeError, in the middle of a training.
    """
    most_bytes()
    isa = os.environ.get("GMD_CPU_ISA")
    if isa is not None and isa not in INSTRUCTION_SETS:
        raise UserError(f"GMD_CPU_ISA: got {isa!r}, expected {_or(INSTRUCTION_SETS)}, or that it is not set")
    forced = os.environ.get("GMD_BACKEND")
    if not forced:
        return
    backends = gmd_kernels.backends()
    if forced not in backends:
        raise UserError(f"GMD_BACKEND: got {forced!r}, expected {_or(tuple(backends))}, or that it is not set")
    reason = "" if backends[forced].available else backends[forced].reason
    # Triton serves the CPU in its interpreter, and is available without a GPU only there
    if not reason and device.type != {"cpu": "cpu", "cuda": "cuda"}.get(forced, device.type):
        reason = f"it is not for {device}"
    if reason:
        raise UserError(f"GMD_BACKEND: got {forced!r}, which cannot be used: {reason}; take the variable away")


def _or(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
