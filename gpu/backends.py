"""Looks whether the kernels that were built load, serve this GPU and compute what they should, in which launches."""

import sys
from functools import partial

import torch

import gmd_kernels as gk
from gmd.cli.doctor import what_is_wrong
from gpu.launches import launched

NEEDED = ("cuda", "triton")
SIZES = (15, 17)  # objectives: as many as one launch takes, if the whole GPU is ours; more


def main() -> int:
    """Returns 0 if all that is meant for a GPU serves this one."""
    print(f"gmd_kernels at {gk.__file__}")
    found = gk.backends()
    for name, backend in found.items():
        print(f"  {'ok     ' if backend.available else 'MISSING'} {name}: {backend.reason}")
    wrong = {}
    for name in (*NEEDED, "reference"):  # each is asked for by name: what looks available may still not load
        wrong[name] = what_is_wrong(torch.device("cuda"), name)
        print(f"three known gradients through {name}: {wrong[name] or 'merged as they should be'}")
    if wrong["cuda"] is None:
        tell_launches()
    return int(any(wrong.values()) or not all(found[name].available for name in NEEDED))


def tell_launches() -> None:
    """Prints which kernels a surgery launches: few objectives take one launch, or three where that is refused."""
    for num_objectives in SIZES:
        grads = [[torch.randn(1000, device="cuda")] for _ in range(num_objectives)]
        gk.surgery(grads)
        names = launched(partial(gk.surgery, grads))
        print(f"surgery of {num_objectives} objectives: {', '.join(names) or 'the profiler sees no kernels here'}")


if __name__ == "__main__":
    sys.exit(main())
