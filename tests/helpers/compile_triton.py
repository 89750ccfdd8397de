"""Compiles the Triton kernels for one kind of GPU, none needed, and prints as JSON what came out, kernel by kernel.

A program of its own: where Triton's interpreter is on, as in the tests, nothing is compiled.
"""

import json
import math
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from gmd_kernels.triton_ops import (
    combine_kernel,
    gram_kernel,
    owm_update,
    owm_update_kernel,
    pcgrad_weights_kernel,
    sketch,
    sketch_kernel,
)
from gmd_kernels.triton_ops import group_norm_relu_kernel as norm_kernels
from gmd_kernels.triton_ops.group_norm_relu import Layout, group_options, table_options, tile_options
from gmd_kernels.triton_ops.tiles import ELEMENTS

OPTIONS = ("num_warps", "maxnreg")  # how to compile, not what
SURGERY = dict.fromkeys(("weight_row", "weight_stride"), "i32")  # types of the arguments of its kernels
SURGERY |= dict.fromkeys(("partials", "grams", "weights"), "*fp64")
SURGERY |= dict.fromkeys(("pointers", "targets", "segments", "pieces", "bounds", "orders"), "*i64")
TILED = ("moments", "apply", "products", "gradient")  # kernels of the norm that read x
# an odd T: no row of a table is then aligned, and what is loaded 16 bytes at a time are gradients
COMMON = [(15, torch.float32, True), (15, torch.float32, False), (15, torch.bfloat16, True)]
MORE = [(15, torch.bfloat16, False)]
MORE += [(15, dtype, aligned) for dtype in (torch.float16, torch.float64) for aligned in (True, False)]
MORE += [(t, dtype, True) for t in (1, 31, 63) for dtype in (torch.float32, torch.float64)]
# projector, gradient, and whether d is a multiple of 16
OWM = [(torch.float32, torch.float32, True), (torch.float32, torch.bfloat16, False)]
MORE_OWM = [(torch.float32, torch.float16, True), (torch.float64, torch.float64, True)]
SKETCHES = [(torch.float32, torch.float32), (torch.bfloat16, torch.float32)]  # of the gradient, of the sketch
MORE_SKETCHES = [(torch.float16, torch.float32), (torch.float64, torch.float32), (torch.float64, torch.float64)]
# channels, of 8 groups where that divides them; whether they lie together; type; whether its vectors are aligned
NORMS = [(16, True, torch.bfloat16, True), (16, True, torch.float32, True), (16, False, torch.float32, True)]
MORE_NORMS = [(5, True, torch.bfloat16, False), (5, False, torch.bfloat16, False), (24, True, torch.float16, True)]
MORE_NORMS += [(512, True, torch.float32, True), *((256, last, torch.float64, True) for last in (True, False))]


def main(target: GPUTarget, every: bool) -> None:
    found = surgery_kernels(target, COMMON + (MORE if every else []))
    for dtype, of_grad, aligned in OWM + (MORE_OWM if every else []):
        name = f"{ELEMENTS[dtype].name} {ELEMENTS[of_grad].name} {'aligned' if aligned else 'ragged'}"
        for op, facts in compiled_owm(dtype, of_grad, aligned, target).items():
            found[f"{op} {name}"] = facts
    for channels, last, dtype, aligned in NORMS + (MORE_NORMS if every else []):
        name = f"{channels} {'together' if last else 'apart'} {name_of(dtype, aligned)}"
        layout = Layout(channels, channels // math.gcd(channels, 8), last)
        for op, facts in compiled_norm(layout, dtype, aligned, target).items():
            found[f"{op} {name}"] = facts
    for dtype, of_sketch in SKETCHES + (MORE_SKETCHES if every else []):
        name = f"sketch {ELEMENTS[of_sketch].name} {ELEMENTS[dtype].name} rotated"
        found[name] = compiled_sketch(dtype, of_sketch, target)
    if every:  # a one is compiled for, as if it were written there
        one = compiled_norm(Layout(5, 1, False), torch.float32, False, target, one_voxel=True)
        found |= {f"{op} 5 apart, one voxel, float32 unaligned": facts for op, facts in one.items()}
    print(json.dumps(found))


def surgery_kernels(target: GPUTarget, cases: list[tuple[int, torch.dtype, bool]]) -> dict[str, dict[str, object]]:
    combine_kernel.WARP, found = target.warp_size, {}
    for t, dtype, aligned in cases:
        name, kind = f"{t} {name_of(dtype, aligned)}", (dtype, aligned)
        element = {"T": t, "ELEMENT": ELEMENTS[dtype], "ALIGNED": aligned}
        rows = gram_kernel.gram_options(gram_kernel.padded(t))
        found[f"gram {name}"] = inspect(gram_kernel._gram_kernel, {**element, **rows}, target)
        rows = combine_kernel.combine_options(t, kind)
        found[f"combine {name}"] = inspect(combine_kernel._combine_kernel, {**element, **rows}, target)
    for t in (15, 64):
        rows = gram_kernel.add_options(gram_kernel.padded(t))
        found[f"add {t}"] = inspect(gram_kernel._add_kernel, {"T": t, **rows}, target)
        rows = pcgrad_weights_kernel.pcgrad_options(t)
        found[f"pcgrad {t}"] = inspect(pcgrad_weights_kernel._pcgrad_weights_kernel, {"T": t, **rows}, target)
    return found


def compiled_owm(
    dtype: torch.dtype, of_grad: torch.dtype, aligned: bool, target: GPUTarget
) -> dict[str, dict[str, object]]:
    """Both readings of the projector."""
    types = dict.fromkeys(("projector", "mean_input", "left"), f"*{ELEMENTS[dtype].name}")
    types |= {"grad": f"*{ELEMENTS[of_grad].name}"} | dict.fromkeys(("k", "flaws", "alpha"), "*fp64")
    types |= dict.fromkeys(("d", "classes", "class_stride", "input_stride", "num_flaws"), "i32")
    multiples = ("d", "class_stride") if aligned else ()
    constants = {"input": dict(owm_update.INPUT_OPTIONS), "step": {"BLOCK": owm_update.BLOCK, **owm_update.OPTIONS}}
    for known in constants.values():
        known["input_stride"] = 1  # of a gradient as it mostly lies: a one is compiled for
    kernels = {"input": owm_update_kernel._input_kernel, "step": owm_update_kernel._update_kernel}
    return {op: inspect(kernels[op], constants[op], target, types, multiples) for op in kernels}


def compiled_sketch(dtype: torch.dtype, of_sketch: torch.dtype, target: GPUTarget) -> dict[str, object]:
    types = dict.fromkeys(("pointers", "blocks"), "*i64") | {"partials": f"*{ELEMENTS[of_sketch].name}"}
    types |= {"d": "i32", "num_blocks": "i32", "seed": "i64"}
    return inspect(sketch_kernel._sketch_kernel, {"ELEMENT": ELEMENTS[dtype], **sketch.OPTIONS}, target, types, ("d",))


def compiled_norm(
    layout: Layout, dtype: torch.dtype, aligned: bool, target: GPUTarget, one_voxel: bool = False
) -> dict[str, dict[str, object]]:
    """All kernels of the norm for one layout, type and alignment."""
    number = "*fp64" if dtype == torch.float64 else "*fp32"
    types = dict.fromkeys(("weight", "bias", "mean", "rstd", "partials", "means", "dweight", "dbias"), number)
    types |= dict.fromkeys(("x", "grad", "y", "dx"), f"*{ELEMENTS[dtype].name}") | {"rows": "*i64", "sums": "*fp64"}
    types |= dict.fromkeys(("voxels", "slots", "tiles", "span", "samples"), "i32")
    multiples = ("voxels",) if aligned and not layout.last else ()

    def compiled(kernel: triton.JITFunction, **constants) -> dict[str, object]:
        constants = {name: value for name, value in constants.items() if name in (*kernel.arg_names, *OPTIONS)}
        return inspect(kernel, constants, target, types, multiples)

    tile = tile_options(layout) | {"GROUP": layout.group}
    tile |= {"voxels": 1} if one_voxel else {}
    group = group_options(layout.channels, layout.channels // layout.group) | {"EPS": 1e-5}
    return {
        **{op: compiled(getattr(norm_kernels, f"_{op}_kernel"), **tile) for op in TILED},
        **{op: compiled(getattr(norm_kernels, f"_{op}_kernel"), **group) for op in ("statistics", "sums")},
        "tables": compiled(norm_kernels._tables_kernel, **table_options(layout.channels)),
    }


def inspect(
    kernel: triton.JITFunction,
    constants: dict,
    target: GPUTarget,
    types: Mapping[str, str] = SURGERY,
    multiples: Sequence[str] = (),  # of 16, among the numbers
) -> dict[str, object]:
    options = {name: constants.pop(name) for name in OPTIONS if name in constants}
    if target.backend == "hip":
        options.pop("maxnreg", None)  # as gram_options does on a machine with such a GPU
    signature = {name: "constexpr" if name in constants else types[name] for name in kernel.arg_names}
    known = [i for i, name in enumerate(kernel.arg_names) if signature[name].startswith("*") or name in multiples]
    aligned = {(i,): [["tt.divisibility", 16]] for i in known}
    compiled = triton.compile(ASTSource(kernel, signature, constants, aligned), target=target, options=options)
    return facts_of_amd(compiled.asm["amdgcn"]) if target.backend == "hip" else facts_of_nvidia(compiled.asm)


def name_of(dtype: torch.dtype, aligned: bool) -> str:
    return f"{str(dtype).removeprefix('torch.')} {'aligned' if aligned else 'unaligned'}"


def facts_of_nvidia(asm: dict) -> dict[str, object]:
    ptx, tools = asm["ptx"], Path(triton.__file__).parent / "backends/nvidia/bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(asm["cubin"])
        file.flush()
        command = [tools / "cuobjdump", "-res-usage", file.name]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    registers, stack, local = re.search(r"REG:(\d+).*STACK:(\d+).*LOCAL:(\d+)", usage).groups()
    return {
        "registers": int(registers),
        "local": int(stack) + int(local),
        "wide loads": len(re.findall(r"ld\.global\.v(?:4\.b32|2\.b64)", ptx)),
        "wide stores": len(re.findall(r"st\.global\.v(?:4\.b32|2\.b64)", ptx)),
        "tf32": "tf32" in ptx,
        "matrix units": bool(re.search(r"mma\.sync\S+f64", ptx)),
    }


def facts_of_amd(text: str) -> dict[str, object]:
    return {
        "registers": max(map(int, re.findall(r"NumVgprs: (\d+)", text))),
        "local": sum(map(int, re.findall(r"ScratchSize: (\d+)", text))),
        "wide loads": text.count("load_dwordx4"),
        "wide stores": text.count("store_dwordx4"),
        "tf32": "xf32" in text,
        "matrix units": "v_mfma_f64" in text,
    }


if __name__ == "__main__":
    backend, arch, warp, which = sys.argv[1:]
    main(GPUTarget(backend, int(arch) if arch.isdigit() else arch, int(warp)), which == "every")
