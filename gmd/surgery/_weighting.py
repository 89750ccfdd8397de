"""Weightings of the Gramian in a training loop, where they have options and a memory, and objectives come and go."""

import inspect
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

import gmd_kernels as gk
from gmd.surgery._by_name import ByName, Names
from gmd.surgery._options import check_options
from gmd.surgery._undone import check_keys

# what a weighting keeps from step to step, by the name of its argument: numbers of each objective, and whether of pairs
_KEPT: dict[str, tuple[tuple[int, ...], bool]] = {"state": ((2,), False), "cosines": ((), True)}


class LoopWeighting(Protocol):
    """From the Gramian of a step to weights.

    Attributes:
        in_random_order: whether the weights depend on a random order in which the objectives meet.
    """

    in_random_order: bool

    def __call__(self, gram: Tensor, names: Names, losses: Tensor) -> Tensor:
        """Returns the weights of T objectives, [T] or [K, T], from their Gramian, [T, T] or [K, T, T] float64.

        losses: [T], detached.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Returns what it remembers, as tensors and plain values."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` has returned."""
        ...


class Weighting:
    """A weighting of the Gramian with its options, for `gmd.Surgeon`; it remembers what it has to from step to step.

        surgeon = gmd.Surgeon(optimizer, gmd.Weighting("cagrad", c=0.8, smooth=0.9))

    What is remembered is kept for each objective by its name: `pcd`'s averages of the squared norms, `gradvac`'s of the
    cosines, and the smoothed weights. An objective that a step lacks keeps its own as it was.

    Args:
        weighting: the name of one of `gmd_kernels.weightings`, or a function from a Gramian [T, T] float64 to weights
            [T] float64, whose options and state are its own affair.
        smooth: 0 <= smooth < 1. Above 0, the weights are smoothed (CR-MOGM, Zhou et al., NeurIPS 2022):
            lambda <- smooth * lambda + (1 - smooth) * weights, from the first weights on. Weights that are not finite
            leave lambda as it is. The paper lets `smooth` grow as the learning rate falls, 1 - lr / (first lr).
        generator: of a weighting that draws random numbers; torch's default generator otherwise.
        options: those of the weighting in `gmd_kernels.weightings`. What is a tensor [T] there may be a dict, name of
            an objective -> number. `primary`, of `pcd`, is the name of an objective, or its position, -1 for the last;
            in a step that lacks it, the last objective is the primary one. Give the losses with that of the most
            modalities last.

    Raises:
        ValueError, TypeError: no such weighting or option, or an option of another type or value.
    """

    def __init__(
        self,
        weighting: str | Callable[[Tensor], Tensor],
        *,
        smooth: float = 0.0,
        generator: torch.Generator | None = None,
        **options: Any,
    ):
        if isinstance(weighting, str):
            self.name, self._function = weighting, gk.weightings.named(weighting)
            self._arguments = tuple(inspect.signature(self._function).parameters)
            self._check_options(options)
        elif callable(weighting):
            self.name, self._function, self._arguments = "", weighting, ()
            check_options("weighting: a function", options, {})
        else:
            raise TypeError(f"weighting: expected a name or a function of a Gramian, got {type(weighting).__name__}")
        if isinstance(smooth, bool) or not isinstance(smooth, float | int) or not 0 <= smooth < 1:
            raise ValueError(f"smooth: expected at least 0 and below 1, got {smooth!r}")
        self._check_generator(generator)
        self.in_random_order = self.name in ("pcgrad", "gradvac")
        self.smooth = smooth
        self.generator = generator
        self.options = options
        self._kept_as = next((argument for argument in self._arguments if argument in _KEPT), None)
        self._kept = ByName(pairs=self._kept_as is not None and _KEPT[self._kept_as][1])
        self._smoothed = ByName(fill=torch.nan)

    def _check_generator(self, generator: object) -> None:
        """Raises an error for something else, and where none is used."""
        if generator is not None and not isinstance(generator, torch.Generator):
            raise TypeError(f"generator: expected a torch.Generator, got {generator!r}")
        if generator is not None and "generator" not in self._arguments:
            raise ValueError(f"generator: weighting {self.name or 'a function'!r} takes none")

    def _check_options(self, options: Mapping[str, Any]) -> None:
        """Raises an error for a bad option; values are tried on a Gramian of gradients that do not conflict."""
        what = f"weighting {self.name!r}"
        known = gk.weightings.options_of(self.name)
        checked = {option: value for option, value in options.items() if option != "primary" or option not in known}
        check_options(what, checked, known)
        plain = {option: value for option, value in checked.items() if isinstance(value, float | int | str)}
        if not plain or len(plain) < len(checked):
            return
        gram = torch.eye(gk.MAX_OBJECTIVES, dtype=torch.float64, device="cpu")
        trial = {"losses": gram.diagonal(), "generator": torch.Generator(), "cosines": torch.zeros_like(gram)}
        needed = {argument: value for argument, value in trial.items() if argument in self._arguments}
        try:
            self._function(gram, **plain, **needed)
        except ValueError as error:
            raise ValueError(f"{what}: {error}") from error

    def __call__(self, gram: Tensor, names: Names, losses: Tensor) -> Tensor:
        """Returns weights, [T] or [K, T] float64, see LoopWeighting. If they are not finite, nothing is remembered.

        Raises ValueError: a Gramian of other groups of parameters than before, an option that lacks an objective.
        """
        weights = self._weigh(gram, names, losses)
        if self.smooth == 0:
            return weights
        before = self._smoothed.take(names, tuple(weights.shape[:-1]), weights.device)
        smoothed = torch.where(before.isnan(), weights, self.smooth * before + (1 - self.smooth) * weights)
        finite = weights.isfinite().all()
        self._smoothed.put(names, torch.where(finite, smoothed, before))
        return torch.where(finite, smoothed, weights)

    def _weigh(self, gram: Tensor, names: Names, losses: Tensor) -> Tensor:
        if not self.name:
            return self._function(gram) if gram.ndim == 2 or self._is_batched() else self._of_each(gram)
        arguments = {option: self._option(option, names, gram.device) for option in self.options}
        arguments |= {"losses": losses.to(gram.dtype)} if "losses" in self._arguments else {}
        arguments |= {"generator": self.generator} if "generator" in self._arguments else {}
        if self._kept_as is None:
            return self._function(gram, **arguments)
        kept = self._kept.take(names, (*gram.shape[:-2], *_KEPT[self._kept_as][0]), gram.device)
        weights = self._function(gram, **arguments, **{self._kept_as: kept})
        self._kept.put(names, kept)
        return weights

    def _is_batched(self) -> bool:
        """Returns whether a function takes [K, T, T]; of a `functools.partial`, its function tells."""
        return bool(getattr(getattr(self._function, "func", self._function), "batched", False))

    def _of_each(self, grams: Tensor) -> Tensor:
        return torch.stack([self._function(gram) for gram in grams])

    def _option(self, option: str, names: Names, device: torch.device) -> Any:
        """Returns the value of an option for the objectives of a step."""
        value = self.options[option]
        if option == "primary":
            return _position(value, names)
        if isinstance(value, Mapping):
            if lacking := [name for name in names if name not in value]:
                raise ValueError(f"weighting {self.name!r}: {option}: expected a number for {lacking[0]!r} too")
            value = [value[name] for name in names]
        if isinstance(value, list | tuple):
            value = torch.tensor(value, dtype=torch.float64)
        return value.to(device, non_blocking=True) if isinstance(value, Tensor) else value

    def state_dict(self) -> dict[str, Any]:
        """Returns what is remembered, and the generator's state if there is one, as tensors and plain values."""
        generator = None if self.generator is None else self.generator.get_state()
        return {
            "weighting": self.name,
            "kept": self._kept.state_dict(),
            "smoothed": self._smoothed.state_dict(),
            "generator": generator,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` has returned, from any device.

        Raises ValueError for the state of another weighting, and changes nothing then.
        """
        check_keys("weighting", self.state_dict(), state)
        if state["weighting"] != self.name:
            expected, got = self.name or "a function", state["weighting"] or "a function"
            raise ValueError(f"weighting: expected the state of {expected!r}, got one of {got!r}")
        kept, smoothed = ByName(self._kept.axes == 2), ByName(fill=torch.nan)
        kept.load_state_dict(state["kept"])
        smoothed.load_state_dict(state["smoothed"])
        if self.generator is not None and state["generator"] is not None:
            self.generator.set_state(state["generator"].cpu())
        self._kept, self._smoothed = kept, smoothed


def _position(primary: Hashable, names: Names) -> int:
    """Returns the position of an objective that is given by name or position; the last one's if it is absent."""
    if primary in names:
        return names.index(primary)
    if isinstance(primary, int) and -len(names) <= primary < len(names):
        return primary % len(names)
    return len(names) - 1


def in_loop(weighting: str | Callable[[Tensor], Tensor] | Weighting, **options: Any) -> LoopWeighting:
    """Returns a weighting for a loop, from a name or a function, see Weighting; one for a loop as it is."""
    if isinstance(weighting, Weighting):
        check_options("weighting: a gmd.Weighting", options, {})
        return weighting
    return Weighting(weighting, **options)
