"""Whether the kernels that were built load, serve this GPU and compute what they should."""

import sys

import torch

import gmd_kernels as gk

NEEDED = ("cuda", "triton")


def main() -> int:
    """0 if all that is meant for a GPU serves this one."""
    print(f"gmd_kernels at {gk.__file__}")
    found = gk.backends()
    for name, backend in found.items():
        print(f"  {'ok     ' if backend.available else 'MISSING'} {name}: {backend.reason}")
    # two opposite gradients and one across: the merged gradient is known whatever the order
    rows = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 3.0]], device="cuda")
    merged = gk.surgery([[row] for row in rows]).merged[0].tolist()
    print(f"expected [0, 1], got {merged}")
    return int(merged != [0.0, 1.0] or not all(found[name].available for name in NEEDED))


if __name__ == "__main__":
    sys.exit(main())
