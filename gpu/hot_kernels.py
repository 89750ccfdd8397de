"""gram, combine and surgery at the sizes that count, a few launches each: what ncu looks at."""

import torch

import gmd_kernels as gk
from bench.cases import LAYOUTS, Case

CASES = (
    Case("transformer-5.6M", LAYOUTS["transformer-5.6M"], 15),
    Case("transformer-5.6M", LAYOUTS["transformer-5.6M"], 15, torch.bfloat16),
    Case("transformer-5.6M", LAYOUTS["transformer-5.6M"], 4),
    Case("small-0.3M", LAYOUTS["small-0.3M"], 7),
)


def main() -> None:
    for case in CASES:
        grads = case.gradients("cuda")
        weights = torch.ones(case.num_objectives, device="cuda")
        print(case.name, flush=True)
        for _ in range(2):
            gk.gram(grads)
            gk.combine(grads, weights)
            gk.surgery(grads)


if __name__ == "__main__":
    main()
