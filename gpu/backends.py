"""Looks whether the kernels that were built load, serve this GPU and compute what they should."""

import sys

import torch

import gmd_kernels as gk
from gmd.cli.doctor import what_is_wrong

NEEDED = ("cuda", "triton")


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
    return int(any(wrong.values()) or not all(found[name].available for name in NEEDED))


if __name__ == "__main__":
    sys.exit(main())
