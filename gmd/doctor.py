"""`gmd doctor`: what this installation can do, what it cannot, why, and what to do about it. Needs torch alone."""

import platform
from importlib import metadata, util

import torch

import gmd_kernels as gk

EXTRAS = {
    "train": ["numpy", "scipy", "nibabel", "monai", "tqdm", "tyro", "matplotlib"],
    "bench": ["torchjd", "pandas"],
}


def main() -> int:
    """Prints the report; 0 if the kernels and the training stack are complete, 1 otherwise."""
    print(f"gmd {metadata.version('gmd')}, Python {platform.python_version()}, {platform.machine()}")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {_gpus()}\n")
    print("Kernels, best first:")
    wanted = {"cpu", "cuda", "triton"} if torch.cuda.is_available() else {"cpu"}
    complete = True
    for name, backend in gk.backends().items():
        complete &= backend.available or name not in wanted
        absent = "MISSING" if name in wanted else "-      "
        print(f"  {'ok     ' if backend.available else absent} {name}: {backend.reason}")
    print("\nExtras:")
    for extra, packages in EXTRAS.items():
        missing = [p for p in packages if util.find_spec(p) is None]
        complete &= not (missing and extra == "train")
        if missing:
            print(f"  MISSING {extra}: {', '.join(missing)}; pip install --no-build-isolation 'gmd[{extra}]'")
        else:
            print(f"  ok      {extra}: {', '.join(f'{p} {metadata.version(p)}' for p in packages)}")
    print(f"\nThe kernels compute what they should: {_self_test()}")
    return 0 if complete else 1


def _gpus() -> str:
    if not torch.cuda.is_available():
        return "no GPU"
    return ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))


def _self_test() -> str:
    """Two opposite gradients and one across: the merged gradient is known."""
    grads = [[torch.tensor([1.0, 0.0])], [torch.tensor([-1.0, 0.0])], [torch.tensor([0.0, 3.0])]]
    merged = gk.surgery(grads).merged[0]
    return "yes" if torch.allclose(merged, torch.tensor([0.0, 1.0])) else f"NO: expected [0, 1], got {merged.tolist()}"
