"""Compiles the Triton kernels for one kind of GPU, none needed, and prints as JSON what came out, kernel by kernel.

A program of its own: where Triton's interpreter is on, as in the tests, nothing is compiled.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from gmd_kernels.triton_ops import combine_kernel, gram_kernel, pcgrad_weights_kernel
from gmd_kernels.triton_ops.tiles import ELEMENTS

OPTIONS = ("num_warps", "maxnreg")  # how to compile, not what
# an odd T: no row of a table is then aligned, and what is loaded 16 bytes at a time are gradients
COMMON = [(15, torch.float32, True), (15, torch.float32, False), (15, torch.bfloat16, True)]
MORE = [(15, torch.bfloat16, False)]
MORE += [(15, dtype, aligned) for dtype in (torch.float16, torch.float64) for aligned in (True, False)]
MORE += [(t, dtype, True) for t in (1, 31, 63) for dtype in (torch.float32, torch.float64)]


def main(target: GPUTarget, every: bool) -> None:
    combine_kernel.WARP, found = target.warp_size, {}
    for t, dtype, aligned in COMMON + (MORE if every else []):
        name, kind = (
            f"{t} {str(dtype).removeprefix('torch.')} {'aligned' if aligned else 'unaligned'}",
            (dtype, aligned),
        )
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
    print(json.dumps(found))


def inspect(kernel: triton.JITFunction, constants: dict, target: GPUTarget) -> dict[str, object]:
    options = {name: constants.pop(name) for name in OPTIONS if name in constants}
    if target.backend == "hip":
        options.pop("maxnreg", None)  # as gram_options does on a machine with such a GPU
    signature = {name: "constexpr" if name in constants else type_of(name) for name in kernel.arg_names}
    pointers = [i for i, name in enumerate(kernel.arg_names) if signature[name].startswith("*")]
    aligned = {(i,): [["tt.divisibility", 16]] for i in pointers}
    compiled = triton.compile(ASTSource(kernel, signature, constants, aligned), target=target, options=options)
    return facts_of_amd(compiled.asm["amdgcn"]) if target.backend == "hip" else facts_of_nvidia(compiled.asm)


def type_of(name: str) -> str:
    """Of an argument."""
    if name in ("weight_row", "weight_stride"):
        return "i32"
    return "*fp64" if name in ("partials", "grams", "weights") else "*i64"


def facts_of_nvidia(asm: dict) -> dict[str, object]:
    ptx, tools = asm["ptx"], Path(triton.__file__).parent / "backends/nvidia/bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(asm["cubin"])
        file.flush()
        command = [tools / "cuobjdump", "-res-usage", file.name]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    stack, local = re.search(r"STACK:(\d+).*LOCAL:(\d+)", usage).groups()
    return {
        "local": int(stack) + int(local),
        "wide loads": len(re.findall(r"ld\.global\.v(?:4\.b32|2\.b64)", ptx)),
        "wide stores": len(re.findall(r"st\.global\.v(?:4\.b32|2\.b64)", ptx)),
        "tf32": "tf32" in ptx,
        "matrix units": bool(re.search(r"mma\.sync\S+f64", ptx)),
    }


def facts_of_amd(text: str) -> dict[str, object]:
    return {
        "local": sum(map(int, re.findall(r"ScratchSize: (\d+)", text))),
        "wide loads": text.count("load_dwordx4"),
        "wide stores": text.count("store_dwordx4"),
        "tf32": "xf32" in text,
        "matrix units": "v_mfma_f64" in text,
    }


if __name__ == "__main__":
    backend, arch, warp, which = sys.argv[1:]
    main(GPUTarget(backend, int(arch) if arch.isdigit() else arch, int(warp)), which == "every")
