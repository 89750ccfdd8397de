"""How torch.amp.GradScaler and the surgery work together.

The surgery's weights take the scale out of the gradients, and an overflow shows on the diagonal of the Gramian. The
scaler is told so, as if it had unscaled the gradients itself. It keeps what it is told by the id of the optimizer that
`scaler.step` is called with: so each step is checked to be one that has taken notice.
"""

import gc
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler, OptState

from gmd.surgery._optimizers import with_those_inside

IGNORED = (
    "scaler: the optimizer given to gmd, {given}, is not the one that the scaler steps: it is about to be stepped "
    "otherwise than by scaler.step with it{others}. `.grad` is unscaled already, so the step would be too small by the "
    "scale, or be made in spite of an overflow. Give gmd the optimizer that is given to scaler.step, and step by "
    "scaler.step alone"
)
UPDATED_BEFORE = (
    "scaler: scaler.update() was called between gmd's backward and scaler.step of {given}: the scaler has forgotten "
    "that `.grad` is unscaled already, and has unscaled it once more. Call scaler.update() once, after all steps"
)
UNWATCHED = (
    "scaler: expected a torch.optim.Optimizer with it, or a wrapper that has one in an attribute, got {given}, of "
    "which it cannot be told what scaler.step will be called with; give gmd that optimizer"
)
NOT_UPDATED = "scaler: {given} has been stepped since scaler.update(), expected that call before the next backward"


class Found(dict[torch.device, Tensor]):
    """What GradScaler keeps for an optimizer, device -> 1 if something was not finite; it remembers having been read.

    `scaler.step(optimizer)` reads it right before it steps the optimizer, in torch 2.8 to 2.13.

    Attributes:
        read: whether the values have been asked for.
        notes: those who have written here, who watch the steps as long as the scaler keeps this, until its update.
    """

    def __init__(self, found: Mapping[torch.device, Tensor]):
        super().__init__(found)
        self.read = False
        self.notes: set[_Note] = set()

    def values(self) -> Any:
        """Returns the values, and remembers that somebody has asked for them."""
        self.read = True
        return super().values()


class Scaling:
    """What the optimizers of a surgeon and their scaler tell each other: nothing, without an enabled scaler.

    Attributes:
        scaler: None too if it is not enabled.
    """

    def __init__(self, scaler: GradScaler | None, optimizers: Sequence[torch.optim.Optimizer]):
        if scaler is not None and not isinstance(scaler, GradScaler):
            raise TypeError(f"scaler: expected a torch.amp.GradScaler, got {type(scaler).__name__}")
        self.scaler = scaler if scaler is not None and scaler.is_enabled() else None
        self._notes = [] if self.scaler is None else [_Note(self.scaler, optimizer) for optimizer in optimizers]

    def scale(self, losses: Sequence[Tensor]) -> Tensor | None:
        """Returns the scaler's present scale, a scalar on the losses' device; None without an enabled scaler.

        Raises:
            RuntimeError: an optimizer was stepped and the scaler not updated since.
        """
        if self.scaler is None:
            return None
        for note in self._notes:
            note.check_updated()
        return self.scaler.scale(torch.ones((), device=losses[0].device))

    def note_unscaled(self, gram: Tensor) -> None:
        """Tells the scaler what `scaler.unscale_(optimizer)` would, which must not be called any more.

        `scaler.step(optimizer)` skips the step if a gradient of any objective was not finite, in this backward pass or
        in one before it since `scaler.update()`.
        """
        found = (~gram.diagonal(dim1=-2, dim2=-1).isfinite().all()).float()
        for note in self._notes:
            note.write({gram.device: found})

    def unscale(self) -> None:
        """Lets the scaler unscale `.grad` of all optimizers, once since `scaler.update()`."""
        for note in self._notes:
            note.unscale()


class _Note:
    """What the scaler is told of one optimizer, and the watch over the optimizer's steps.

    It is noted for the optimizers inside a wrapper too: some wrappers give these to `scaler.step`. (The states are
    GradScaler's own, the same in torch 2.8 to 2.13; its public way to them is a pass over all gradients.)
    """

    def __init__(self, scaler: GradScaler, optimizer: torch.optim.Optimizer):
        self.scaler = scaler
        self.optimizer = optimizer
        members = with_those_inside(optimizer)
        self._watch(members)
        self.keys = [id(member) for member in members]
        self.pending: Found | None = None  # what no step has taken notice of so far

    def __reduce__(self) -> tuple[type, tuple[GradScaler, torch.optim.Optimizer]]:
        """Lets a copy know its own optimizer by its own id, and watch its steps."""
        return _Note, (self.scaler, self.optimizer)

    def _watch(self, members: Sequence[torch.optim.Optimizer]) -> None:
        """Lets the optimizers ask before each step, as long as this is alive."""
        this = weakref.ref(self)
        watched = [member for member in members if hasattr(member, "_optimizer_step_pre_hooks")]  # wrappers may lack it
        if not watched:
            raise TypeError(UNWATCHED.format(given=type(self.optimizer).__name__))

        def before_step(*_: object) -> None:
            note = this()
            if note is not None:
                note.check_noticed()

        for member in watched:
            weakref.finalize(self, member.register_step_pre_hook(before_step).remove)

    def write(self, found: Mapping[torch.device, Tensor]) -> None:
        """Puts it into the scaler's state of the optimizer, on top of what it was told since its last update."""
        [before] = [state["found_inf_per_device"] for state in self._states()[:1]] or [{}]
        merged = before if isinstance(before, Found) else Found(before)
        for device, value in found.items():
            merged[device] = torch.maximum(merged[device], value) if device in merged else value
        for key in self.keys:
            state = self.scaler._per_optimizer_states[key]
            state["found_inf_per_device"] = merged
            state["stage"] = OptState.UNSCALED
        merged.notes.add(self)
        self.pending = merged

    def unscale(self) -> None:
        self.scaler.unscale_(self.optimizer)
        self.write({})

    def check_updated(self) -> None:
        if any(state["stage"] is OptState.STEPPED for state in self._states()):
            raise RuntimeError(NOT_UPDATED.format(given=type(self.optimizer).__name__))

    def check_noticed(self) -> None:
        """Raises a RuntimeError if a step that is about to be made has not taken notice of what the scaler was told."""
        pending, self.pending = self.pending, None
        founds = [state["found_inf_per_device"] for state in self._states()]
        ours = [found for found in founds if isinstance(found, Found)]
        given = type(self.optimizer).__name__
        if any(not found.read for found in ours):
            raise RuntimeError(IGNORED.format(given=given, others=self._others()))
        # a step that was left out because of an overflow, and then one without gmd, are as they should be
        if founds and not ours and pending is not None and not any(pending.values()):
            raise RuntimeError(UPDATED_BEFORE.format(given=given))

    def _states(self) -> list[dict[str, Any]]:
        states = self.scaler._per_optimizer_states
        return [states[key] for key in self.keys if key in states]

    def _others(self) -> str:
        """Returns the types of what else the scaler has been asked to step, as the end of a phrase."""
        others = self.scaler._per_optimizer_states.keys() - set(self.keys)
        names = {type(thing).__name__ for thing in gc.get_objects() if id(thing) in others}
        return f" (the scaler got {', '.join(sorted(names))})" if names else ""
