"""Backward passes modality by modality, for objectives that meet the network at the modalities' outputs only.

    parameters -> path of modality m -> outputs[m] -> fusion, head -> losses

Behind the outputs a backward pass is cheap: there each objective has its own. Each modality's path then sees the
objectives that contain it, or the leading directions of their cotangents, and is freed before the next one's turn.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

import gmd_kernels as gk
from gmd.surgery._by_sample import Layers, Multiples, by_sample, check_by_sample, common_directions, layers_of
from gmd.surgery._compression import Directions, leading_directions
from gmd.surgery._graph import Paths, find_paths
from gmd.surgery._kept import KeptRows
from gmd.surgery._passes import Row, gradient_of, several_passes

Checked = frozenset[int]  # a path, by the ids of its parameters
Cotangents = list[list[Tensor | None]]  # [T][M], the gradient of each loss at each output
Rows = list[list[Tensor | None]]  # [T][P], the objectives' gradients as far as they are known
Plan = tuple[Multiples, Layers]  # how to go through a path by sample


class Basis(NamedTuple):
    """The objectives' gradients, or others that they are combinations of.

    Directions, discarded and norms are None if the losses came without outputs.

    Attributes:
        rows: [B][P] gradients.
        mixing: [T, B] float64 on the CPU, see `gmd_kernels.surgery`; None where the rows are the objectives' own.
        shared: [P] bool on the CPU, which parameters every objective reaches; None where the rows tell.
        directions: [M], how many backward passes went through the path of each output.
        discarded: [M] float64 on the CPU, see `Directions`.
        norms: [M] float64, the norm of the mean loss's gradient at each output, before its factor.
        reach: where the rows are pieces of gradients over several processes, which have zeros for what is not there:
            [T, P] bool on the CPU, which objective reaches which parameter; on this process until it is joined.
        grams: of such rows, the objectives' Gramian over all processes, [T, T] or [K, T, T] float64.
        at_outputs: of such rows, the Gramians at the outputs, [M, T, T]; joined: whether they are of all processes.
        in_grad: whether something was in `.grad` of some process before, where these are pieces over several.
    """

    rows: Sequence[Row]
    mixing: Tensor | None = None
    shared: Tensor | None = None
    directions: tuple[int, ...] | None = None
    discarded: Tensor | None = None
    norms: Tensor | None = None
    reach: Tensor | None = None
    grams: Tensor | None = None
    at_outputs: Tensor | None = None
    joined: bool = False
    in_grad: bool = False

    def gramian(self, scale: Tensor | None) -> Tensor:
        """Returns the objectives' Gramian, [T, T], without the scale that the losses had."""
        if self.grams is not None:
            return self.grams
        gram = gk.gram(self.rows)
        if self.mixing is not None:
            mixing = self.mixing.to(gram.device)
            gram = mixing @ gram @ mixing.T
            gram = (gram + gram.mT) / 2
        return gram if scale is None else gram / scale / scale

    def private(self) -> list[bool]:
        """Returns which parameters some objectives reach, but not all, [P]."""
        if self.reach is not None:
            some: list[bool] = (self.reach.any(dim=0) & ~self.reach.all(dim=0)).tolist()
            return some
        reached = [sum(gradient is not None for gradient in column) for column in zip(*self.rows, strict=True)]
        whole = [count == len(self.rows) for count in reached] if self.shared is None else self.shared.tolist()
        return [count > 0 and not shared for count, shared in zip(reached, whole, strict=True)]


def path_gradients(
    losses: Sequence[Tensor],
    outputs: Sequence[Tensor],
    params: Sequence[nn.Parameter],
    tol: float = 0.0,
    scale: Tensor | None = None,
    factors: Tensor | None = None,
    checked: set[Checked] | None = None,
    retain_graph: bool = False,
    pass_after: bool = False,
) -> Basis:
    """Returns the losses' gradients times `scale`, those before output m also times factors[m].

    Frees the graph, path after path, unless it is to be retained.

    pass_after: whether it is also to be retained where the gradients are compressed, for a pass of the losses' own.

    A GPU is waited for once with tol > 0, for a Gramian that tells the number of passes; once by sample, for whether
    its passes are exact; and once more for each path that is checked. Otherwise nothing here waits.

    checked: paths in which samples are known not to mix, see `gmd.surgery._by_sample`; those that are used so for the
        first time are checked, and added. None: no gradients by sample.
    """
    ours = cut(losses, outputs, params, scale, retain_graph, pass_after)
    norms = norms_at(ours.grams, scale)
    ours = ours._replace(cotangents=multiplied(ours.cotangents, factors))
    # a factor leaves an output's directions, and what they leave out of each cotangent, as they are
    num_head_rows = len(losses) if ours.has_head else 0
    directions = _compressed(ours.cotangents, outputs, ours.grams, tol, num_head_rows) if tol > 0 else None
    if directions is None:
        basis = exact(ours, outputs, params, checked)
    else:
        paths = paths_kept(ours.paths, pass_after)
        head_rows = ours.rows if ours.has_head else []
        basis = _by_directions(ours.cotangents, outputs, params, paths, head_rows, directions)
    return basis._replace(norms=norms)


class Cut(NamedTuple):
    """The graph cut at the outputs, and the objectives' gradients there and behind them.

    Attributes:
        paths: before the outputs.
        has_head: whether there are parameters behind them.
        rows: [T][P], the gradients of the head's parameters; None for the others.
        cotangents: [T][M], the gradients at the outputs.
        grams: [M, T, T] float64, the cotangents' Gramians, with the scale.
    """

    paths: Paths
    has_head: bool
    rows: Rows
    cotangents: Cotangents
    grams: Tensor


def cut(
    losses: Sequence[Tensor],
    outputs: Sequence[Tensor],
    params: Sequence[nn.Parameter],
    scale: Tensor | None,
    retain_graph: bool,
    pass_after: bool,
) -> Cut:
    """Makes each loss's pass behind the outputs; for the arguments, see `path_gradients`."""
    paths = find_paths(losses, outputs, retain_graph)
    wanted = {id(param): p for p, param in enumerate(params)}
    head = [leaf for leaf in paths.head if id(leaf) in wanted]
    rows: Rows = [[None] * len(params) for _ in losses]
    cotangents = _behind(losses, outputs, head, scale, rows, wanted, retain_graph or pass_after)
    return Cut(paths, bool(head), rows, cotangents, gk.gram(cotangents, groups=range(len(outputs))))


def paths_kept(paths: Paths, keep: bool) -> Paths:
    """Returns the paths, of which all are to be retained if `keep` says so."""
    return paths._replace(kept=[kept or keep for kept in paths.kept])


def _behind(
    losses: Sequence[Tensor],
    outputs: Sequence[Tensor],
    head: list[Tensor],
    scale: Tensor | None,
    rows: Rows,
    wanted: dict[int, int],
    retain_graph: bool,
) -> Cotangents:
    """Returns the outputs' cotangents; puts the head's gradients into `rows`, at the places that `wanted` gives."""
    last = len(losses) - 1
    with several_passes(len(losses) + retain_graph):
        behind = [
            gradient_of(loss, [*outputs, *head], scale, retain_graph=retain_graph or k < last)
            for k, loss in enumerate(losses)
        ]
    for row, gradients in zip(rows, behind, strict=True):
        for leaf, gradient in zip(head, gradients[len(outputs) :], strict=True):
            row[wanted[id(leaf)]] = gradient
    return [list(row[: len(outputs)]) for row in behind]


def norms_at(grams: Tensor, scale: Tensor | None) -> Tensor:
    """Returns the norm of the mean loss's gradient at each output, [M] float64, of Gramians [M, T, T]."""
    count = grams.shape[-1]
    return grams.sum(dim=(1, 2)).clamp(min=0).sqrt() / (count if scale is None else count * scale)


def multiplied(cotangents: Cotangents, factors: Tensor | None) -> Cotangents:
    """Returns the cotangents times the factors of their outputs, [M] or None."""
    if factors is None:
        return cotangents
    return [[_times(c, f) for c, f in zip(row, factors, strict=True)] for row in cotangents]


def _times(cotangent: Tensor | None, factor: Tensor) -> Tensor | None:
    return None if cotangent is None else cotangent * factor


def _compressed(
    cotangents: Cotangents, outputs: Sequence[Tensor], grams: Tensor, tol: float, num_head_rows: int
) -> Directions | None:
    """Returns the leading directions; None if the objectives' own passes are as few, or a gradient is not finite."""
    grams = grams.cpu()
    if not grams.isfinite().all():
        return None
    directions = leading_directions(grams, tol, [output.dtype for output in outputs])
    passes = sum(cotangent is not None for row in cotangents for cotangent in row)
    fewer = sum(directions.counts) < passes and sum(directions.counts) + num_head_rows <= gk.MAX_OBJECTIVES
    return directions if fewer else None


def exact(found: Cut, outputs: Sequence[Tensor], params: Sequence[nn.Parameter], checked: set[Checked] | None) -> Basis:
    """Makes a pass for each objective and modality of it, or one by sample for the modality, and adds up in `rows`."""
    paths, rows, cotangents = found.paths, found.rows, found.cotangents
    counts = []
    ours: list[set[int]] = [set() for _ in rows]  # parameters, by number, whose sum is in memory of its own
    plans = _plans(cotangents, paths) if checked is not None else [None] * len(outputs)
    kept = KeptRows(len(rows), params)
    for m, (output, plan) in enumerate(zip(outputs, plans, strict=True)):
        column = taken(cotangents, m)
        reached = [k for k, cotangent in enumerate(column) if cotangent is not None]
        given = [cotangent for cotangent in column if cotangent is not None]
        passes: Iterable[Row]
        if checked is None or plan is None:
            passes = passes_of(output, params, given, paths.kept[m], paths.compiled[m])
        else:
            passes = _by_sample(output, params, plan, paths.kept[m], checked)
        counts.append(len(reached) if plan is None else 1)
        for k, gradients in zip(reached, passes, strict=True):
            # by sample, the gradients of all objectives are parts of one tensor already
            _add(rows[k], gradients, ours[k], kept if plan is None else None)
    return Basis(rows, None, None, tuple(counts), torch.zeros(len(outputs), dtype=torch.float64, device="cpu"))


def _plans(cotangents: Cotangents, paths: Paths) -> list[Plan | None]:
    """Returns [M] plans; None for a path through which whole passes have to be made. A GPU is waited for once."""
    plans: list[Plan | None] = []
    for column, nodes in zip(zip(*cotangents, strict=True), paths.nodes, strict=True):
        given = [cotangent for cotangent in column if cotangent is not None]
        layers = layers_of(nodes) if len(given) > 1 else None
        plans.append(None if layers is None else (common_directions(given), layers))
    exact = [plan[0].exact for plan in plans if plan is not None]
    verdicts = iter(torch.stack(exact).tolist() if exact else [])
    return [plan if plan is not None and next(verdicts) else None for plan in plans]


def _by_sample(
    output: Tensor,
    params: Sequence[nn.Parameter],
    plan: Plan,
    keep: bool,
    checked: set[Checked],
) -> list[Row]:
    """Returns [K][P] gradients by sample; the path is compared with a whole pass when it is used for the first time."""
    (coefficients, vectors, _), layers = plan
    path = frozenset(id(param) for leaves in layers.values() for param in leaves)
    if path not in checked:
        check_by_sample(output, params, vectors, layers)
        checked |= {path} if len(output) > 1 else set()  # in one row nothing can mix
    return by_sample(output, params, coefficients, vectors, layers, keep)


def _by_directions(
    cotangents: Cotangents,
    outputs: Sequence[Tensor],
    params: Sequence[nn.Parameter],
    paths: Paths,
    head_rows: Rows,
    directions: Directions,
) -> Basis:
    """Makes a pass for each direction and modality; behind the outputs there are the objectives' own gradients."""
    rows: list[Row] = []
    mixing: list[Tensor] = []  # [B][T]
    reach: list[Tensor] = []  # [B][T]
    counts = []  # [M]
    kept = KeptRows(sum(directions.counts), params)
    # now, when nothing is under way that it would wait for
    combining = torch.cat(directions.combining, dim=1).to(outputs[0].device).split(directions.counts, dim=1)
    for m, output in enumerate(outputs):
        column = taken(cotangents, m)
        combined = [gk.combine([[c] for c in column], weights)[0] for weights in combining[m].T]
        leading = [direction for direction in combined if direction is not None]  # an output may have no cotangents
        rows += map(kept.keep, passes_of(output, params, leading, paths.kept[m], paths.compiled[m]))
        mixing += directions.mixing[m].T[: len(leading)]
        reach += [torch.tensor([c is not None for c in column], device="cpu")] * len(leading)
        counts.append(len(leading))
    if head_rows:
        rows += head_rows
        mixing += torch.eye(len(head_rows), dtype=torch.float64, device="cpu")
        reach += torch.eye(len(head_rows), dtype=torch.bool, device="cpu")
    there = torch.tensor([[g is not None for g in row] for row in rows], device="cpu")  # [B, P]
    shared = (torch.stack(reach, dim=1).double() @ there.double() > 0).all(dim=0)
    return Basis(rows, torch.stack(mixing, dim=1), shared, tuple(counts), directions.discarded)


def passes_of(
    output: Tensor, params: Sequence[nn.Parameter], cotangents: list[Tensor], keep: bool, compiled: bool
) -> Iterator[Row]:
    """Yields [P] gradients for each cotangent of the output; the last pass frees its path unless another needs it.

    A compiled path is kept by a lone pass too: the first pass ever decides whether the next step may have several.
    """
    last = len(cotangents) - 1
    keep = keep or (compiled and last == 0)
    with several_passes(2 if keep else len(cotangents)):
        for k, cotangent in enumerate(cotangents):
            yield torch.autograd.grad(output, params, cotangent, retain_graph=keep or k < last, allow_unused=True)


def taken(cotangents: Cotangents, m: int) -> list[Tensor | None]:
    """Returns [T], the cotangents of output m, which nobody else holds any longer."""
    column = [row[m] for row in cotangents]
    for row in cotangents:
        row[m] = None
    return column


def _add(row: list[Tensor | None], gradients: Row, ours: set[int], kept: KeptRows | None) -> None:
    """Adds to a row, in place only where memory is ours: autograd may have given one tensor to two parameters.

    A parameter's first gradient is moved to `kept`, where that takes it.
    """
    _add_in_place(row, gradients, ours)
    first = [gradient if total is None else None for total, gradient in zip(row, gradients, strict=True)]
    placed = first if kept is None else kept.keep(first)
    for p, gradient in enumerate(gradients):
        if gradient is not None and p not in ours:
            total = row[p]
            row[p] = placed[p] if total is None else total + gradient
            if row[p] is not gradient:
                ours.add(p)


def _add_in_place(row: list[Tensor | None], gradients: Row, ours: set[int]) -> None:
    in_place = [(row[p], gradients[p]) for p in ours]
    pairs = [(total, gradient) for total, gradient in in_place if total is not None and gradient is not None]
    if pairs:
        torch._foreach_add_([total for total, _ in pairs], [gradient for _, gradient in pairs])
