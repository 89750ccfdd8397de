"""Checks of group_norm_relu's arguments, with errors that say what came, and how x has to lie in memory."""

import torch
from torch import Tensor

from gmd_kernels.gradients import tell_of

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def check(x: Tensor, weight: Tensor, bias: Tensor, num_groups: int, rows: Tensor | None, eps: float) -> None:
    """Raises an error if anything but the values of `rows` is wrong."""
    if not isinstance(x, Tensor) or x.dtype not in DTYPES or x.layout is not torch.strided or x.ndim < 2:
        raise TypeError(f"x: expected float32, bfloat16, float16 or float64 [n, C, *spatial], got {tell_of(x)}")
    channels = x.shape[1]
    if not isinstance(num_groups, int) or num_groups < 1 or channels < 1 or channels % num_groups:
        raise ValueError(f"num_groups: expected a divisor of {channels} channels, got {num_groups!r}")
    statistics = statistics_type(x)
    _check_table("weight", weight, x, statistics)
    _check_table("bias", bias, x, statistics)
    if bias.shape != weight.shape:
        raise ValueError(f"bias: expected {list(weight.shape)} as weight, got {list(bias.shape)}")
    if not isinstance(eps, float | int) or not eps >= 0:
        raise ValueError(f"eps: expected a number of at least 0, got {eps!r}")
    _check_rows(rows, x, weight)


def _check_rows(rows: Tensor | None, x: Tensor, weight: Tensor) -> None:
    if rows is None:
        if len(weight) not in (1, len(x)):
            raise ValueError(f"rows: expected [n] = [{len(x)}] int64 where weight has {len(weight)} rows, got None")
        return
    if not isinstance(rows, Tensor) or rows.dtype is not torch.int64 or rows.shape != x.shape[:1]:
        raise ValueError(f"rows: expected int64 [n] = [{len(x)}], got {tell_of(rows)}")
    if rows.device != x.device:
        raise ValueError(f"rows: expected on {x.device} as x, got {tell_of(rows)}")


def check_values(rows: Tensor, num_rows: int) -> None:
    """Raises a ValueError if there is no such row. Kernels on the CPU trust them; for other devices this would wait."""
    if rows.device.type != "cpu":
        return
    for sample, row in enumerate(rows.tolist()):
        if not 0 <= row < num_rows:
            raise ValueError(f"rows[{sample}]: expected 0 to {num_rows - 1}, got {row}")


def check_tables(x: Tensor, **tables: Tensor) -> None:
    """Raises a TypeError if a table is not of the statistics' type, which kernels ask for beyond `check`."""
    for name, table in tables.items():
        if table.dtype is not statistics_type(x):
            raise TypeError(f"{name}: expected {statistics_type(x)}, the type of the statistics, got {tell_of(table)}")


def check_backward(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, rows: Tensor, mean: Tensor, rstd: Tensor
) -> None:
    """Raises an error if anything but the values of `rows` is wrong."""
    if not isinstance(mean, Tensor) or mean.ndim != 2 or mean.layout is not torch.strided:
        raise ValueError(f"mean: expected [n, G], got {tell_of(mean)}")
    num_groups = int(mean.shape[1])
    check(x, weight, bias, num_groups, rows, 0.0)
    check_tables(x, weight=weight, bias=bias)
    statistics = [len(x), num_groups], weight.dtype
    for name, tensor, (shape, dtype) in (
        ("grad", grad, (list(x.shape), x.dtype)),
        ("mean", mean, statistics),
        ("rstd", rstd, statistics),
    ):
        if (list(tensor.shape), tensor.dtype, tensor.device, tensor.layout) != (shape, dtype, x.device, torch.strided):
            raise ValueError(f"{name}: expected {shape} {dtype} on {x.device}, strided, got {tell_of(tensor)}")


def statistics_type(x: Tensor) -> torch.dtype:
    """Returns the type of means and of the arithmetic: float64 for float64, else float32."""
    return torch.float64 if x.dtype is torch.float64 else torch.float32


def lying_plainly(x: Tensor) -> Tensor:
    """Returns x or a copy of it, contiguous or channels-last as the kernels read it; a copy is in the order of x."""
    if _lies_plainly(x):
        return x
    copied = torch.empty_like(x, device="meta")  # has the strides that a copy would have
    return x.clone() if _lies_plainly(copied) else x.contiguous()


def _lies_plainly(x: Tensor) -> bool:
    if x.is_contiguous():
        return True
    last = _CHANNELS_LAST.get(x.ndim)
    return last is not None and x.is_contiguous(memory_format=last)


def _check_table(name: str, table: Tensor, x: Tensor, statistics: torch.dtype) -> None:
    if not isinstance(table, Tensor) or table.dtype not in (statistics, x.dtype) or table.layout is not torch.strided:
        raise TypeError(f"{name}: expected {statistics} or x's {x.dtype}, got {tell_of(table)}")
    if table.ndim != 2 or table.shape[1] != x.shape[1] or table.device != x.device:
        raise ValueError(f"{name}: expected [R, C] = [R, {x.shape[1]}] on {x.device} as x, got {tell_of(table)}")
