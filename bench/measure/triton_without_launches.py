"""Triton's way from a call to its launches without a GPU: nothing is compiled, and launches do nothing."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import triton
from triton.backends.compiler import GPUTarget

import gmd_kernels as gk
from gmd_kernels import dispatch, triton_ops


class NoDevice:
    """Stands in for Triton's driver of a GPU."""

    def get_current_device(self) -> int:
        """Returns the device's index."""
        return 0

    def get_current_stream(self, device: int) -> int:
        """Returns the stream's handle."""
        return 0

    def get_current_target(self) -> GPUTarget:
        """Returns what kernels would be compiled for."""
        return GPUTarget("cuda", 90, 32)


class NoKernel:
    """Stands in for a compiled kernel: a launch does nothing."""

    function = packed_metadata = None

    def __init__(self, name: str):
        self.name = name

    def launch_metadata(self, *arguments: object) -> None:
        """Returns nothing, as without hooks."""

    def run(self, *arguments: object) -> None:
        """Launches nothing."""


def keep_no_kernel(self: triton.JITFunction, key: str, signature: dict, device: int, *rest: object) -> NoKernel:
    """Stands in for compilation, once for each kind of arguments."""
    kernel = self.device_caches[device][0][key] = NoKernel(self.fn.__name__)
    return kernel


@contextmanager
def through_triton() -> Iterator[None]:
    """Sends calls on the CPU through Triton's way, whose launches do nothing."""
    found = dispatch._KERNELS["triton"]._replace(find=lambda: gk.Backend(True, "stands in"))
    triton.runtime.driver.set_active(NoDevice())
    dispatch._why_not_gpu.cache_clear()
    with ExitStack() as stack:
        stack.enter_context(patch.object(triton.JITFunction, "_do_compile", keep_no_kernel))
        stack.enter_context(patch.object(triton_ops, "why_not", lambda device: None))
        stack.enter_context(patch.dict(dispatch._KERNELS, triton=found))
        stack.enter_context(patch.dict(os.environ, GMD_BACKEND="triton"))
        yield
    dispatch._why_not_gpu.cache_clear()
    triton.runtime.driver.set_active(None)  # as before its first use
