"""Gradients over several processes, path by path before the modalities' outputs, see `gmd.surgery._paths`.

The batch of all processes is one batch whose outputs lie one after the other. So the Gramian of the cotangents at an
output is the sum of the processes' own, and a direction over the whole batch is on each process the same combination of
what that process has. With tol > 0, all find the same few directions from those Gramians; each makes a pass for its
part of a direction, and one row for each direction travels instead of one for each objective. A process may lack
outputs, or objectives: then it brings nothing to their rows.
"""

from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

import gmd_kernels as gk
from gmd.surgery._compression import Directions, leading_directions
from gmd.surgery._graph import met_by
from gmd.surgery._passes import Row
from gmd.surgery._paths import Basis, Checked, Cut, cut, exact, multiplied, passes_of, paths_kept, taken
from gmd.surgery.processes.replicated import Replicated
from gmd.surgery.processes.sharded import ShardedEngine

Engine = Replicated | ShardedEngine


class Asked(NamedTuple):
    """What is to be made of the losses.

    Attributes:
        names: of the T objectives.
        terms: [T], this process's loss of each, times its share; None where it has none.
        outputs: those of this process.
        places: of these outputs among those of all processes.
        num_outputs: M, of all processes.
        params: [P], what the graph has in the place of each parameter.
        tol, scale, factors, checked, retain_graph, pass_after: as in `path_gradients`.
    """

    names: Sequence[Hashable]
    terms: Sequence[Tensor | None]
    outputs: list[Tensor]
    places: list[int]
    num_outputs: int
    params: Sequence[nn.Parameter]
    tol: float
    scale: Tensor | None
    factors: Tensor | None
    checked: set[Checked] | None
    retain_graph: bool
    pass_after: bool


class Ours(NamedTuple):
    """What this process has of them: the graph cut at the outputs that its losses reach.

    Attributes:
        objectives: [t], which of the T have a loss here.
        outputs: [m] of them, which some loss here was computed from.
        places: of these.
        cut: None if there are no losses here.
    """

    objectives: list[int]
    outputs: list[Tensor]
    places: list[int]
    cut: Cut | None


def through_outputs(engine: Engine, asked: Asked) -> Basis:
    """Returns this process's pieces of the gradients over all processes, whose Gramian is not yet joined.

    The basis' `at_outputs` are the cotangents' Gramians [M, T, T], of this process, or with tol > 0 of all.

    Holds this process's gradients of all objectives at once, until it scatters one after the other.
    """
    ours = _cut_here(asked)
    grams = _at_outputs(ours, asked) / engine.copies_of_a_batch
    directions = None
    if asked.tol > 0:
        grams, there = engine.joined(grams, _which(ours, asked))
        directions = _directions(engine, asked, grams, there)
        if directions is not None:
            return _by_directions(engine, asked, ours, directions, there)._replace(at_outputs=grams, joined=True)
    return _exact(engine, asked, ours)._replace(at_outputs=grams, joined=asked.tol > 0)


def _cut_here(asked: Asked) -> Ours:
    """Makes the passes behind the outputs."""
    objectives = [k for k, term in enumerate(asked.terms) if term is not None]
    losses = [term for term in asked.terms if term is not None]
    if not losses:
        return Ours([], [], [], None)
    met = met_by(losses, asked.outputs)
    outputs = [asked.outputs[m] for m in met]
    found = cut(losses, outputs, asked.params, asked.scale, asked.retain_graph, asked.pass_after)
    factors = None if asked.factors is None else asked.factors[met]
    found = found._replace(cotangents=multiplied(found.cotangents, factors))
    return Ours(objectives, outputs, [asked.places[m] for m in met], found)


def _at_outputs(ours: Ours, asked: Asked) -> Tensor:
    """Returns the Gramians of this process's cotangents, before factors, [M, T, T]."""
    t, device = len(asked.terms), asked.params[0].device
    grams = torch.zeros(asked.num_outputs, t, t, dtype=torch.float64, device=device)
    if ours.cut is not None:
        which = torch.tensor(ours.objectives, device=device)
        places = torch.tensor(ours.places, device=device)
        grams[places[:, None, None], which[:, None], which] = ours.cut.grams
    return grams


def _which(ours: Ours, asked: Asked) -> Tensor:
    """Returns [T, M + 1] bool on the CPU: which cotangents this process has; last, whether it has a head."""
    there = torch.zeros(len(asked.terms), asked.num_outputs + 1, dtype=torch.bool, device="cpu")
    if ours.cut is not None:
        for k, row in zip(ours.objectives, ours.cut.cotangents, strict=True):
            there[k, ours.places] = torch.tensor([cotangent is not None for cotangent in row], device="cpu")
        there[:, -1] = ours.cut.has_head
    return there


def _directions(engine: Engine, asked: Asked, grams: Tensor, there: Tensor) -> Directions | None:
    """Returns the leading directions that the first process has found; None where the objectives are as few.

    Directions of eigenvalues that lie close together are not the same on every machine. An output that a process lacks
    counts as one of the type of its others.
    """
    t, m = len(asked.terms), asked.num_outputs
    if not grams.isfinite().all():
        return None
    types = {place: output.dtype for place, output in zip(asked.places, asked.outputs, strict=True)}
    default = next(iter(types.values()), asked.params[0].dtype)
    found = leading_directions(grams.cpu(), asked.tol, [types.get(place, default) for place in range(m)])
    packed = torch.zeros(m, 2 * t * t + 2, dtype=torch.float64, device="cpu")
    for of_one, combining, mixing, discarded in zip(
        packed, found.combining, found.mixing, found.discarded, strict=True
    ):
        count = combining.shape[1]
        of_one[0], of_one[1] = count, discarded
        of_one[2 : 2 + t * count], of_one[2 + t * t : 2 + t * t + t * count] = combining.flatten(), mixing.flatten()
    packed = engine.agreed(packed.to(grams.device)).cpu()
    counts = [int(of_one[0]) for of_one in packed]
    first = Directions(
        tuple(of_one[2 : 2 + t * count].view(t, count) for of_one, count in zip(packed, counts, strict=True)),
        tuple(of_one[2 + t * t :][: t * count].view(t, count) for of_one, count in zip(packed, counts, strict=True)),
        packed[:, 1].clone(),
    )
    head_rows = t if bool(there[:, -1].any()) else 0
    fewer = sum(counts) < int(there[:, :-1].sum()) and sum(counts) + head_rows <= gk.MAX_OBJECTIVES
    return first if fewer else None


def _exact(engine: Engine, asked: Asked, ours: Ours) -> Basis:
    """Makes the passes of this process's objectives, and scatters one gradient after the other."""
    own: list[list[Tensor | None]] = [[None] * len(asked.params) for _ in asked.terms]
    counts = [0] * len(asked.outputs)
    if ours.cut is not None:
        found = exact(ours.cut, ours.outputs, asked.params, asked.checked)
        for k, row in zip(ours.objectives, found.rows, strict=True):
            own[k] = list(row)
        for place, count in zip(ours.places, found.directions or (), strict=True):
            counts[asked.places.index(place)] = count
        del found, row
        for rest in ours.cut.rows:  # which hold the gradients too
            rest.clear()
    reach = torch.tensor([[gradient is not None for gradient in row] for row in own], device="cpu")
    rows = [
        engine.scattered(row, f"the gradient of objective {name!r}") for row, name in zip(own, asked.names, strict=True)
    ]
    discarded = torch.zeros(len(asked.outputs), dtype=torch.float64, device="cpu")
    return Basis(rows, directions=tuple(counts), discarded=discarded, reach=reach)


def _by_directions(engine: Engine, asked: Asked, ours: Ours, directions: Directions, there: Tensor) -> Basis:
    """Makes a pass for each direction, and scatters it; the head's gradients are the objectives' own."""
    found = _along_paths(engine, asked, ours, directions, there)
    if bool(there[:, -1].any()):
        for k, of_one in enumerate(torch.eye(len(asked.terms), dtype=torch.float64, device="cpu")):
            row: list[Tensor | None] = [None] * len(asked.params)
            if ours.cut is not None and k in ours.objectives:
                row = list(ours.cut.rows[ours.objectives.index(k)])
            found.add(row, of_one, of_one > 0)
            found.rows.append(engine.scattered(row, f"the head's gradient of objective {asked.names[k]!r}"))
    counts = tuple(directions.counts[place] if bool(there[:, place].any()) else 0 for place in asked.places)
    discarded = directions.discarded[asked.places]
    return Basis(found.rows, torch.stack(found.mixing, dim=1), None, counts, discarded, reach=found.reach)


class _Found:
    """Rows that the objectives' gradients are combinations of.

    Attributes:
        rows: [B][P] pieces of them.
        mixing: [B][T], as columns of `Basis.mixing`.
        reach: [T, P] bool on the CPU, which objective reaches which parameter on this process.
    """

    def __init__(self, num_objectives: int, num_params: int):
        self.rows: list[Row] = []
        self.mixing: list[Tensor] = []
        self.reach = torch.zeros(num_objectives, num_params, dtype=torch.bool, device="cpu")

    def add(self, row: Row, mixing: Tensor, reaching: Tensor) -> None:
        """Takes note of a row, this process's own of it; mixing: [T]; reaching: [T] bool, the objectives in it."""
        self.mixing.append(mixing)
        there = torch.tensor([gradient is not None for gradient in row], device="cpu")
        self.reach |= reaching[:, None] & there


def _along_paths(engine: Engine, asked: Asked, ours: Ours, directions: Directions, there: Tensor) -> _Found:
    """Makes a pass for each direction at each output, and scatters what comes of it."""
    found = _Found(len(asked.terms), len(asked.params))
    for place in range(asked.num_outputs):
        if not bool(there[:, place].any()):
            continue
        passes = iter(_passes_here(asked, ours, place, directions.combining[place]))
        for j, mixing in enumerate(directions.mixing[place].T):
            row = list(next(passes, [None] * len(asked.params)))
            found.add(row, mixing, there[:, place])
            found.rows.append(engine.scattered(row, f"the gradient of direction {j + 1} at output {place + 1}"))
        next(passes, None)  # which ends the generator
    return found


def _passes_here(asked: Asked, ours: Ours, place: int, combining: Tensor) -> list[Row] | Iterator[Row]:
    """Returns the gradients of this process's part of each direction at an output; nothing if it has none there."""
    if ours.cut is None or place not in ours.places:
        return []
    m = ours.places.index(place)
    column = taken(ours.cut.cotangents, m)
    weights = combining[ours.objectives].to(ours.outputs[m].device)
    combined = [gk.combine([[cotangent] for cotangent in column], of_one)[0] for of_one in weights.T]
    leading = [direction for direction in combined if direction is not None]
    paths = paths_kept(ours.cut.paths, asked.pass_after)
    return passes_of(ours.outputs[m], asked.params, leading, paths.kept[m], paths.compiled[m])
