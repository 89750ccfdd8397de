"""The CUDA kernels on a CPU: csrc/cuda/*.cu compiled by the C++ compiler against tests/helpers/cuda/emulator.h.

Tensors are on the CPU and contiguous. Whatever a kernel writes is poisoned before.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Sequence
from ctypes import c_char_p, c_int, c_int32, c_int64, c_uint32, c_uint64, c_void_p
from typing import NamedTuple

import torch
from torch import Tensor

import gmd_kernels as gk
from helpers.places import HELPERS, ROOT

HERE, CSRC = HELPERS / "cuda", ROOT / "csrc" / "cuda"
SOURCES = [*sorted(HERE.glob("*.cpp")), CSRC / "plan.cpp", *sorted(CSRC.rglob("*.cu"))]
HEADERS = [
    *HERE.glob("**/*.h"),
    *CSRC.rglob("*.cuh"),
    *(path for path in CSRC.rglob("*.h") if not path.name.startswith("torch_")),
    *(CSRC.parent / name for name in ("both.h", "sketch_map.h")),
]
FLAGS = ["-std=c++17", "-O1", "-g", "-fPIC", "-shared", "-Wno-unknown-pragmas", f"-I{HERE}/include", f"-I{CSRC}"]
SANITIZE = [
    "-fsanitize=address,undefined",
    "-fno-sanitize=vptr",
    "-fno-sanitize-recover=all",
    "-fno-omit-frame-pointer",
]
TYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}
UNIT_BYTES, WARPS = 512, 8  # as in csrc/cuda/table.h
H100_SHARED = 232448


class Device(ctypes.Structure):
    _fields_ = [("multiprocessors", c_int), ("shared_bytes", c_int)]


class _Source(ctypes.Structure):
    _fields_ = [
        *((name, c_int64) for name in ("numel", "type", "group", "count")),
        *((name, c_void_p) for name in ("gradients", "objectives", "result")),
    ]


class Order(ctypes.Structure):
    """What csrc/cuda/kernels.h calls Order and Philox; build it with `given`, `drawn` or `captured`."""

    _fields_ = [
        ("given", c_void_p),
        ("seed", c_uint64),
        ("offset", c_uint64),
        ("seed_at", c_void_p),
        ("offset_at", c_void_p),
        ("offset_intragraph", c_uint64),
        ("drawn", c_void_p),
    ]


class Numbers(NamedTuple):
    """What tests/helpers/cuda/driver.cpp tells of a plan."""

    length: int
    units: int
    descriptors: int
    words: int
    gram_blocks: int
    combine_blocks: int
    partials: int
    counters: int
    gram_bytes: int
    surgery_bytes: int
    bytes_per_warp: int
    fits: bool


class Descriptor(NamedTuple):
    begin: int
    numel: int
    index: int
    group: int
    count: int
    type: int
    aligned: bool
    is_shared: bool
    turn: int
    units: int


def why_not() -> str | None:
    if platform.machine() != "x86_64" or platform.system() != "Linux":
        return f"the emulator switches stacks on x86-64 Linux only, this is {platform.machine()} {platform.system()}"
    return None if shutil.which(_compiler()) else f"no C++ compiler ({_compiler()}) to build the emulator with"


def _compiler() -> str:
    return os.environ.get("CXX", "g++").split()[0]


@functools.cache
def library() -> ctypes.CDLL:
    """Built where there is none of these sources yet; with GMD_SANITIZE=1 one that stops at the first bad access."""
    kind = "sanitized" if os.environ.get("GMD_SANITIZE") == "1" else "plain"
    flags = FLAGS + (SANITIZE if kind == "sanitized" else [])
    text = b"".join(path.read_bytes() for path in sorted([*SOURCES, *HEADERS]))
    name = hashlib.sha256(text + " ".join([_compiler(), *flags]).encode()).hexdigest()[:16]
    target = ROOT / "build" / "cuda_emulator" / f"{kind}_{name}.so"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        for stale in target.parent.glob(f"{kind}_*.so"):
            stale.unlink(missing_ok=True)
        unfinished = target.with_suffix(f".{os.getpid()}")
        subprocess.run([_compiler(), *flags, "-o", unfinished, "-x", "c++", *SOURCES], check=True)
        unfinished.rename(target)
    loaded = ctypes.CDLL(str(target))
    loaded.plan_new.restype = c_void_p
    loaded.emulator_message.restype = c_char_p
    loaded.emulator_accesses.restype = c_int64
    for function in (loaded.place_begin, loaded.place_block):
        function.argtypes, function.restype = [c_int64] * 3, c_int64
    return loaded


def seed(value: int) -> None:
    """Another order in which threads run."""
    library().emulator_seed(c_uint32(value))


def tensor_core(of: str) -> None:
    """How its sums are cut off: see tests/helpers/cuda/tensor_core.cpp. An A100's, unless it is told."""
    library().emulator_tensor_core(["A100", "H100"].index(of))


def check(error: int) -> None:
    if error:
        raise RuntimeError(f"error {error}: {library().emulator_message().decode()}")


def recorded(run: Callable[[], object]) -> Tensor:
    """Which elements or vectors of gradients and results `run` reads and writes: block, thread, address, [.., 3]."""
    library().emulator_record(1)
    run()
    found = torch.empty(library().emulator_accesses(None), 3, dtype=torch.int64)
    library().emulator_accesses(pointer(found))
    library().emulator_record(0)
    return found


def pointer(tensor: Tensor | None) -> c_void_p:
    return c_void_p(None if tensor is None else tensor.data_ptr())


class Plan:
    """The table of some gradients, uploaded.

    Args:
        grads: as `gmd_kernels.gram` takes them.
        groups: as there.
        out: as `gmd_kernels.combine` takes them; None: no results.
    """

    def __init__(self, grads, groups=None, out=None):
        columns = list(zip(*grads, strict=True))
        self.t, self.p = len(grads), len(columns)
        self.k = 1 if groups is None else max(groups, default=-1) + 1
        self.keep = [grads, out]
        sources = (_Source * max(self.p, 1))()
        for p, column in enumerate(columns):
            result = None if out is None else out[p]
            sources[p] = self._source(column, 0 if groups is None else groups[p], result)
        self.handle = c_void_p(library().plan_new(sources, c_int64(self.p), self.t, self.k))
        check(library().plan_upload(self.handle))

    def _source(self, column, group: int, result: Tensor | None) -> _Source:
        reached = [k for k, g in enumerate(column) if g is not None]
        present = [column[k] for k in reached]
        like = present[0] if present else result
        assert all(g.is_contiguous() for g in present)
        gradients = (c_void_p * max(len(present), 1))(*(g.data_ptr() for g in present))
        objectives = (c_int32 * max(len(present), 1))(*reached)
        self.keep += [gradients, objectives]
        numel, kind = (0, 0) if like is None else (like.numel(), TYPES[like.dtype])
        addresses = [ctypes.addressof(gradients), ctypes.addressof(objectives), pointer(result)]
        return _Source(numel, kind, group, len(present), *addresses)

    def __del__(self):
        if hasattr(self, "handle"):
            library().plan_delete(self.handle)

    def numbers(self, device: Device) -> Numbers:
        found = (c_int64 * len(Numbers._fields))()
        library().plan_numbers(self.handle, ctypes.byref(device), found)
        return Numbers(*found)

    def pieces(self, blocks: int) -> Tensor:
        """What the blocks of a kernel find: begin and end on the line, first descriptor and the one behind the last."""
        found = torch.full((blocks, 4), -1)
        check(library().run_pieces(self.handle, blocks, pointer(found)))
        return found

    def words(self) -> list[int]:
        """As they are uploaded."""
        found = (c_uint64 * self.numbers(Device(1, 0)).words)()
        library().plan_words(self.handle, found)
        return list(found)

    def descriptors(self) -> list[Descriptor]:
        found = (c_int64 * len(Descriptor._fields))()
        result = []
        for i in range(self.numbers(Device(1, 0)).descriptors):
            library().plan_descriptor(self.handle, c_int64(i), found)
            result.append(Descriptor(*found))
        return result


class Workspace:
    """Zeroed once, for any number of launches."""

    def __init__(self):
        self.counters = torch.zeros(4096, dtype=torch.int32)
        self.poison = torch.full((0,), torch.nan, dtype=torch.float64)

    def partials(self, size: int) -> Tensor:
        if len(self.poison) != size:
            self.poison = torch.full((size,), torch.nan, dtype=torch.float64)
        return self.poison


def device(multiprocessors: int = 2, shared_bytes: int = H100_SHARED) -> Device:
    return Device(multiprocessors, shared_bytes)


def gram(grads, groups=None, on: Device | None = None, workspace: Workspace | None = None) -> Tensor:
    on, workspace, plan = on or device(), workspace or Workspace(), Plan(grads, groups)
    result = torch.full((plan.k, plan.t, plan.t), torch.nan, dtype=torch.float64)
    partials = workspace.partials(plan.numbers(on).partials)
    counters = pointer(workspace.counters)
    check(library().run_gram(plan.handle, ctypes.byref(on), counters, pointer(partials), pointer(result)))
    return result[0] if groups is None else result


def given(order: Tensor) -> Order:
    result = Order(given=order.data_ptr())
    result.keep = order
    return result


def drawn(seed: int, offset: int, into: Tensor | None = None) -> Order:
    result = Order(seed=seed, offset=offset, drawn=pointer(into))
    result.keep = into
    return result


def captured(seed: Tensor, offset: Tensor, intragraph: int, into: Tensor | None = None) -> Order:
    result = Order(
        seed_at=seed.data_ptr(), offset_at=offset.data_ptr(), offset_intragraph=intragraph, drawn=pointer(into)
    )
    result.keep = (seed, offset, into)
    return result


def weights(gram: Tensor, order: Order, mean: bool = True) -> tuple[Tensor, Tensor]:
    """-> [.., T, T], [.., 2, T]."""
    t = gram.shape[-1]
    projections = torch.full_like(gram, torch.nan)
    merged = torch.full((*gram.shape[:-2], 2, t), torch.nan, dtype=torch.float64)
    count = c_int64(gram.shape[:-2].numel())
    arguments = [pointer(gram), count, t, ctypes.byref(order), pointer(projections), pointer(merged), int(mean)]
    check(library().run_weights(*arguments))
    return projections, merged


def poisoned(grads) -> list[Tensor | None]:
    """Results for `combine`, full of NaN."""
    found = []
    for column in zip(*grads, strict=True):
        like = next((g for g in column if g is not None), None)
        found.append(None if like is None else torch.full_like(like, torch.nan))
    return found


def combine(
    grads, weights: Tensor, out: Sequence[Tensor | None] | None = None, on: Device | None = None, groups=None
) -> list[Tensor | None]:
    """With [T] or [P, T]; [K, 2, T] as `weights` returns them."""
    out = poisoned(grads) if out is None else list(out)
    plan, on = Plan(grads, groups, out), on or device()
    per_group = weights.ndim == 3
    rows = weights.reshape(-1, weights.shape[-1]) if per_group else weights
    strides = (0, rows.stride(0)) if rows.ndim == 1 else rows.stride()
    strides = [c_int64(stride) for stride in strides]
    check(library().run_combine(plan.handle, ctypes.byref(on), pointer(rows), int(per_group), *strides))
    return out


def surgery(
    grads, order: Order, out=None, mean: bool = True, on: Device | None = None, workspace: Workspace | None = None
) -> tuple[list[Tensor | None], Tensor, Tensor]:
    """-> results, gram [T, T], weights [2, T]."""
    out = poisoned(grads) if out is None else list(out)
    plan, on, workspace = Plan(grads, None, out), on or device(), workspace or Workspace()
    gram = torch.full((plan.t, plan.t), torch.nan, dtype=torch.float64)
    merged = torch.full((2, plan.t), torch.nan, dtype=torch.float64)
    partials = workspace.partials(plan.numbers(on).partials)
    memory = [pointer(workspace.counters), pointer(partials), ctypes.byref(order)]
    check(library().run_surgery(plan.handle, ctypes.byref(on), *memory, int(mean), pointer(gram), pointer(merged)))
    return out, gram, merged


def sketch(grads: Sequence[Tensor | None], into: Tensor, seed: int) -> int:
    """Adds to a sketch, [d]; returns how many slices it was done in."""
    rows = [(g.data_ptr(), g.numel(), p, TYPES[g.dtype]) for p, g in enumerate(grads) if g is not None and g.numel()]
    sources = torch.tensor(rows, dtype=torch.int64)
    where = pointer(sources), c_int64(len(rows)), c_int64(len(into))
    slices = library().sketch_slices(*where)
    partials = torch.full((slices, len(into)), torch.nan, dtype=into.dtype)
    check(library().run_sketch(*where, c_uint64(seed), TYPES[into.dtype], pointer(partials), pointer(into)))
    return slices


def philox(counter: Sequence[int], key: Sequence[int]) -> list[int]:
    result = (c_uint32 * 4)()
    library().run_philox((c_uint32 * 6)(*counter, *key), result)
    return list(result)


def order_of(t: int, seed: int = 3) -> Tensor:
    return gk.projection_order(t, torch.Generator().manual_seed(seed))


def assert_same(first: Sequence[Tensor | None], second: Sequence[Tensor | None]) -> None:
    """The same bits, NaN included."""
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert (a is None) == (b is None)
        assert a is None or a.reshape(-1).view(torch.uint8).equal(b.reshape(-1).view(torch.uint8))
