"""`python -m bench.measure.numerics`: how far gram and combine are from exact, over types and scales."""

import argparse
from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from torch import Tensor

import gmd_kernels as gk
from bench.measure.cases import SUFFIXES
from bench.measure.files import RESULTS, write_csv
from bench.measure.host import host_columns

NUM_ELEMENTS = 25_013
OBJECTIVES = (4, 7, 15, 64)
SCALES = (1e-30, 1e-20, 1e-10, 1.0, 1e10, 1e15)
TYPES = {torch.float32: "float32", **{dtype: str(dtype).removeprefix("torch.") for dtype in SUFFIXES}}


def rows() -> Iterator[dict]:
    """Yields the rows of numerics_cpu.csv: one for each type, number of objectives, scale and kind of gradients."""
    for dtype, name in TYPES.items():
        for num_objectives in OBJECTIVES:
            for scale in SCALES:
                if not torch.finfo(dtype).tiny < scale < torch.finfo(dtype).max / 10:
                    continue  # float16 ends at 6e-5 and 6e4
                for kind, rows in gradients(num_objectives).items():
                    grads = (scale * rows).to(dtype)
                    errors = {"gram_error": gram_error(grads), "combine_error": combine_error(grads)}
                    yield {"dtype": name, "T": num_objectives, "scale": scale, "gradients": kind} | errors


def gradients(num_objectives: int) -> dict[str, Tensor]:
    """Returns gradients [T, N] float64 of either kind, random and constant.

    Constant ones are the worst there is: every sum is rounded the same way again and again.
    """
    generator = torch.Generator().manual_seed(num_objectives)
    random = torch.randn(num_objectives, NUM_ELEMENTS, generator=generator, dtype=torch.float64)
    constant = torch.rand(num_objectives, 1, generator=generator, dtype=torch.float64) + 0.5
    return {"random": random, "constant": constant.expand_as(random)}


def gram_error(grads: Tensor) -> float:
    """Returns the largest |error| of <g_i, g_j> over |g_i| |g_j|, of gradients [T, N]."""
    exact = grads.double().numpy().astype(np.longdouble)
    products = exact @ exact.T
    norms = np.sqrt(products.diagonal())
    error = gk.gram([[g] for g in grads]).numpy().astype(np.longdouble) - products
    return float((np.abs(error) / (norms[:, None] * norms)).max())


def combine_error(grads: Tensor) -> float:
    """Returns the largest |error| of an element over sum_k |w_k g_k|, before the result is rounded to its type."""
    weights = torch.linspace(-1, 2, len(grads), dtype=torch.float64)
    terms = weights.numpy().astype(np.longdouble)[:, None] * grads.double().numpy().astype(np.longdouble)
    exact, size = terms.sum(axis=0), np.abs(terms).sum(axis=0)
    [result] = gk.combine([[g] for g in grads], weights)
    assert result is not None
    error = np.abs(result.double().numpy() - exact)
    half_ulp = torch.finfo(grads.dtype).eps / 2 * np.abs(exact) if grads.dtype.itemsize == 2 else 0
    return float((np.maximum(error - half_ulp, 0) / size).max())


def markdown(table: pd.DataFrame) -> str:
    """Returns a row for each type and T, a column for each scale; then the other errors' worst over all scales."""
    random, constant = (table[table["gradients"] == kind] for kind in ("random", "constant"))
    wide = random.pivot(index=["dtype", "T"], columns="scale", values="gram_error")
    worst = {
        "gram, constant gradients": constant.groupby(["dtype", "T"])["gram_error"].max(),
        "combine": table.groupby(["dtype", "T"])["combine_error"].max(),
    }
    lines = [
        "| type | T | " + " | ".join(f"{scale:.0e}" for scale in wide.columns) + " | " + " | ".join(worst) + " |",
        "|:--|--:|" + "--:|" * (len(wide.columns) + len(worst)),
    ]
    for dtype in table["dtype"].unique():
        for t in OBJECTIVES:
            cells = [*wide.loc[(dtype, t)], *(column[(dtype, t)] for column in worst.values())]
            lines.append(f"| {dtype} | {t} | " + " | ".join(map(_digits, cells)) + " |")
    return "\n".join(lines)


def _digits(error: float) -> str:
    return "" if pd.isna(error) else f"{error:.0e}"


if __name__ == "__main__":
    argparse.ArgumentParser(prog="python -m bench.measure.numerics", description=__doc__).parse_args()
    print(markdown(write_csv(RESULTS / "numerics_cpu.csv", list(rows()), host_columns())))
