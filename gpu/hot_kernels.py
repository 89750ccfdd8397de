"""Launches gram, combine, surgery and the norm a few times each at the sizes that count, for ncu to look at."""

import torch

import gmd_kernels as gk
from bench.measure.cases import LAYOUTS, Case, Gradients

CASES = (
    Case("transformer-5.6M", LAYOUTS["transformer-5.6M"], 15),
    Case("transformer-5.6M", LAYOUTS["transformer-5.6M"], 15, torch.bfloat16),
    Case("transformer-5.6M", LAYOUTS["transformer-5.6M"], 4),
    Case("small-0.46M", LAYOUTS["small-0.46M"], 15),
    Case("small-0.3M", LAYOUTS["small-0.3M"], 7),
)
NORM = 16, 128, 128, 128  # the first level of the U-Net: channels, voxels


def main() -> None:
    for case in CASES:
        print(case.name, flush=True)
        launch(case.gradients("cuda"))
    x = torch.randn(1, *NORM, device="cuda", dtype=torch.bfloat16).to(memory_format=torch.channels_last_3d)
    weight, bias = (torch.ones(1, NORM[0], device="cuda", requires_grad=True) for _ in range(2))
    print("norm", flush=True)
    for _ in range(2):
        gk.group_norm_relu(x.requires_grad_(), weight, bias, 8).backward(x.detach())


def launch(grads: Gradients) -> None:
    weights = torch.ones(len(grads), device="cuda")
    for _ in range(2):
        gk.gram(grads)
        gk.combine(grads, weights)
        gk.surgery(grads)


if __name__ == "__main__":
    main()
