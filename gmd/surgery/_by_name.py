"""Numbers that are kept for each objective by its name, as objectives may come and go from step to step."""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from torch import Tensor

from gmd.surgery._undone import check_keys

Names = tuple[Hashable, ...]


class ByName:
    """Float64 numbers of each objective, or of each pair of objectives.

    Args:
        pairs: whether each pair of objectives has numbers of its own; otherwise each objective has.
        fill: what an objective, or a pair, has when it is met for the first time.

    Attributes:
        names: of all N objectives that were met.
        values: [..., N] float64, with pairs [..., N, N]; None before the first.
    """

    def __init__(self, pairs: bool = False, fill: float = 0.0):
        self.axes = 2 if pairs else 1
        self.fill = fill
        self.names: Names = ()
        self.values: Tensor | None = None

    def take(self, names: Names, front: tuple[int, ...], device: torch.device) -> Tensor:
        """Returns a copy of the numbers of T objectives, [*front, T] float64, with pairs [*front, T, T].

        Raises ValueError: numbers of another shape in front are kept.
        """
        everybody, values = self._with(names, front, device)
        return values.clone() if everybody == names else values[self._at(names, everybody, device)]

    def put(self, names: Names, numbers: Tensor) -> None:
        """Keeps the numbers of T objectives, of the shape that `take` returns; those of others stay."""
        everybody, values = self._with(names, tuple(numbers.shape[: -self.axes]), numbers.device)
        if everybody == names:
            values = numbers.clone()
        else:
            values = values.clone()
            values[self._at(names, everybody, numbers.device)] = numbers
        self.names, self.values = everybody, values

    def _with(self, names: Names, front: tuple[int, ...], device: torch.device) -> tuple[Names, Tensor]:
        """Returns the names that are kept and those that are new, and the numbers of all of them."""
        known = set(self.names)
        everybody = self.names + tuple(name for name in names if name not in known)
        if self.values is None:
            return everybody, self._full((*front, *[len(everybody)] * self.axes), device)
        if tuple(self.values.shape[: -self.axes]) != front:
            kept = list(self.values.shape[: -self.axes])
            raise ValueError(f"state: expected {list(front)} numbers of each objective, got {kept} of the steps before")
        added = len(everybody) - len(self.names)
        values = torch.nn.functional.pad(self.values.to(device), (0, added) * self.axes, value=self.fill)
        return everybody, values

    def _full(self, shape: tuple[int, ...], device: torch.device) -> Tensor:
        return torch.full(shape, self.fill, dtype=torch.float64, device=device)

    def _at(self, names: Names, everybody: Names, device: torch.device) -> tuple[Any, ...]:
        """Returns the index of some objectives, or of their pairs, among all."""
        numbers = {name: number for number, name in enumerate(everybody)}
        places = torch.tensor([numbers[name] for name in names], device="cpu").to(device, non_blocking=True)
        return (..., places) if self.axes == 1 else (..., places.unsqueeze(-1), places)

    def state_dict(self) -> dict[str, Any]:
        """Returns the names and a copy of the values, None before the first."""
        return {"names": list(self.names), "values": None if self.values is None else self.values.clone()}

    def load_state_dict(self, state: Mapping[str, Any], front: tuple[int, ...] | None = None) -> None:
        """Takes over what `state_dict` has returned, from any device.

        front: the shape of what each objective, or pair, has; None: any

        Raises ValueError: something is missing, or there are not as many values as names.
        """
        check_keys("state", self.state_dict(), state)
        names, values = tuple(state["names"]), state["values"]
        sizes = (len(set(names)),) * self.axes
        if values is None and not names:
            self.names, self.values = (), None
            return
        if not isinstance(values, Tensor) or values.dtype != torch.float64 or values.shape[-self.axes :] != sizes:
            got = f"{values.dtype} {list(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
            expected = f"float64 [..., {', '.join(map(str, sizes))}], numbers of {len(names)} names"
            raise ValueError(f"state: expected {expected}, got {got}")
        if front is not None and tuple(values.shape[: -self.axes]) != front:
            each = list(values.shape[: -self.axes])
            raise ValueError(f"state: expected {list(front)} numbers of each objective, got {each}")
        self.names, self.values = names, values.clone()
