"""The engine where each process has pieces of the parameters: `fully_shard`, tensor parallelism, or both.

A row of the whole batch's gradients is made in one of three ways, and what a process keeps of it is what it has of the
parameters, as DTensors. So Gramians of pieces add up, pieces are combined where they lie, and nothing is gathered.

- By hooks: `fully_shard`'s own, in an ordinary backward pass for each objective, which leaves the pieces in `.grad`. At
  no time is there a whole gradient. All processes have to make the same passes.
- By autograd: with all units gathered, each process makes whole gradients of its own batch, which are added up and cut
  by one reduce-scatter for each objective. That is what outputs and compression need, and processes may then have
  different objectives.
- By tensor parallelism alone, autograd itself makes the pieces, as all processes have the same batch.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn

import gmd_kernels as gk
from gmd.surgery._delivery import check_no_late_hooks
from gmd.surgery._graph import check_graph
from gmd.surgery._losses import Outputs, check_outputs
from gmd.surgery._one_pass import watched
from gmd.surgery._passes import Row, gradient_of, several_passes
from gmd.surgery._sketches import Sketches
from gmd.surgery._step import Step
from gmd.surgery.processes.chunks import Chunks, data_dims, local_gradient
from gmd.surgery.processes.joined import Joined
from gmd.surgery.processes.units import Sharded, Units
from gmd.surgery.processes.waiting import waiting
from gmd_kernels.checks import check_groups
from gmd_kernels.gradients import read
from gmd_kernels.ops import backend_for
from gmd_kernels.pieces import gram_of_pieces, is_dtensor, like_wholes, pieces_of

UNSYNCED = (
    "losses: fully_shard has left no gradient of parameter {name!r}, which objective {objective!r} reaches; expected "
    "its units to add up gradients in each backward pass: set_requires_gradient_sync(True)"
)
APART = (
    "losses: objective {objective!r} reaches unit {unit!r} of fully_shard on some processes only, whose reductions may "
    "then have met others'. Let all processes compute it, on zeros where there is no sample, and give a count of 0; or "
    "give outputs="
)


class ShardedEngine(Joined):
    """Makes, joins and merges gradients of which each process keeps what it has of the parameters.

    Args:
        group: the processes.
        network: that has the parameters.

    Attributes:
        in_step: whether all processes have to make the same passes: they meet in each of them.
        copies_of_a_batch: how many processes have the same batch.
        leaves: [P], what autograd's graph has in the place of each parameter.
    """

    in_step = True

    def __init__(self, group: dist.ProcessGroup, network: nn.Module):
        super().__init__(group)
        self.units = Units(network)
        self._network = network
        self._params: list[nn.Parameter] = []
        self._found: list[Sharded] = []
        self._numbers: list[int] = []  # of the unit of each parameter
        self.leaves: list[nn.Parameter] = []
        self._chunks: list[tuple[list[int], Chunks]] = []
        self.copies_of_a_batch = 1
        self._copies: Sequence[int] = []  # how many processes have the same piece of each parameter

    def begin(self, params: list[nn.Parameter]) -> None:
        """Takes note of the parameters of a step.

        Raises ValueError: one is no parameter of the network, or of none of its units while others are; or their meshes
        hold other processes than the group.
        """
        if len(params) == len(self._params) and all(a is b for a, b in zip(params, self._params, strict=True)):
            return
        self._found = self.units.parameters()
        known = {id(one.param): one for one in self._found}
        inside = {id(param) for param in self._network.parameters()}
        for p, param in enumerate(params):
            self._check(p, param, id(param) in inside, id(param) in known)
        self._numbers = [known[id(param)].unit for param in params] if known else []
        self.leaves = [known[id(param)].leaf if known else param for param in params]
        self._params = params
        self._chunks = self._chunked() if known else []
        self.copies_of_a_batch = self._counted_copies()
        self._copies = pieces_of([params], self.group).copies

    def _check(self, p: int, param: nn.Parameter, inside: bool, in_unit: bool) -> None:
        what = f"optimizer: parameter {p}, {list(param.shape)},"
        if not inside:
            raise ValueError(f"{what} is none of model ({type(self._network).__name__}), expected the sharded network")
        if self.units.modules and not in_unit:
            raise ValueError(
                f"{what} is in no unit of fully_shard, and nobody adds up its gradients; call fully_shard on the whole "
                "network last, without ignored_params"
            )

    def _counted_copies(self) -> int:
        """Returns how many processes have the same batch.

        Raises ValueError: the parameters' meshes do not make up the group.
        """
        pairs = [(param, leaf) for param, leaf in zip(self._params, self.leaves, strict=True) if is_dtensor(param)]
        batches = {math.prod(param.device_mesh.shape[: data_dims(param, leaf)]) for param, leaf in pairs}
        cuts = max(leaf.device_mesh.size() if is_dtensor(leaf) else 1 for _, leaf in pairs)
        if len(batches) > 1 or cuts * max(batches) != self.group.size():
            raise ValueError(
                f"group: expected one of all processes that have parts of the parameters, got one of "
                f"{self.group.size()}, while batches differ between {' or '.join(map(str, sorted(batches)))} processes "
                f"and tensor parallelism is over {cuts}"
            )
        return self.group.size() // max(batches)

    def _chunked(self) -> list[tuple[list[int], Chunks]]:
        """Returns the numbers of the parameters that travel together, and where they lie."""
        kinds: dict[object, list[int]] = {}
        for p, (param, leaf) in enumerate(zip(self._params, self.leaves, strict=True)):
            assert is_dtensor(param), "which parameters of units are"
            dims = data_dims(param, leaf)
            how = tuple(placement.is_replicate() for placement in param.placements[:dims])
            kinds.setdefault((param.device_mesh, how, param.dtype, leaf.device), []).append(p)
        return [
            (numbers, Chunks([self._params[p] for p in numbers], [self.leaves[p] for p in numbers]))  # type: ignore[misc]
            for numbers in kinds.values()
        ]

    @property
    def _num_shards(self) -> int:
        return max(chunks.num_shards for _, chunks in self._chunks)

    # ---- the rows ----

    def passes(
        self, names: Sequence[object], losses: Sequence[Tensor | None], scale: Tensor | None, retain_graph: bool
    ) -> tuple[list[Row], Tensor]:
        """Makes a pass for each objective, the same on all processes.

        losses: [T], times this process's shares

        Returns [T][P] this process's pieces of the whole batch's gradients; and [T, P] bool on the CPU, which gradients
        this process had.
        """
        reach = torch.zeros(len(losses), len(self._params), dtype=torch.bool, device="cpu")
        # gathered units take no more memory than the objectives' shards then
        kept = self.units.modules and len(losses) >= self._num_shards
        return list(self._rows(names, losses, scale, retain_graph, reach, bool(kept))), reach

    def sketched(
        self, sketches: Sketches, losses: Sequence[Tensor | None], outputs: Outputs | None, step: Step
    ) -> tuple[Tensor, Tensor]:
        """Makes a pass for each objective, as `passes`, and folds this process's pieces before the next is made.

        Returns the estimate of the Gramian over all processes, [T, T], and what any process reaches, [T, P].
        """
        assert step.agreed is not None, "as at every step that takes weights"
        sketches.of_pieces(dist.get_rank(self.group), self.group.size())
        found = [] if outputs is None else check_outputs(outputs)
        rows = self._rows(step.agreed.names, losses, step.scale, step.retain_graph, sketches.reach, False)
        with watched(found, step.factors):
            for k, row in enumerate(rows):
                sketches.fold(k, self._once(row))
                del row
        grams, reach = self.joined(sketches.gram(None).unsqueeze(0), sketches.reach)
        return grams[0], reach

    def _once(self, row: Row) -> Row:
        """Returns pieces such that one which several processes have counts once in a sum of Gramians, [P]."""
        pairs = zip(row, self._copies, strict=True)
        return [piece if piece is None or copies == 1 else piece / math.sqrt(copies) for piece, copies in pairs]

    def _rows(
        self,
        names: Sequence[object],
        losses: Sequence[Tensor | None],
        scale: Tensor | None,
        retain_graph: bool,
        reach: Tensor,
        gathered: bool,
    ) -> Iterator[Row]:
        """Yields this process's pieces of each objective's gradient, after a pass for it, and fills in `reach`.

        gathered: whether units stay gathered from pass to pass
        """
        given = [loss for loss in losses if loss is not None]
        assert len(given) == len(losses), "the agreement has made sure of that"
        check_graph(given)
        if self.units.modules:
            yield from self._by_hooks(names, given, scale, retain_graph, reach, gathered)
            return
        with several_passes(len(given) + retain_graph):
            for k, (name, loss) in enumerate(zip(names, given, strict=True)):
                row = list(gradient_of(loss, self._params, scale, retain_graph or k < len(given) - 1))
                reach[k] = torch.tensor([gradient is not None for gradient in row], dtype=torch.bool, device="cpu")
                yield self.scattered(row, f"the gradient of objective {name!r}")

    def scattered(self, row: list[Tensor | None], what: str) -> Row:
        """Returns this process's pieces of a gradient over the whole batch, [P], from its own, [P].

        what: it is, in an error's words
        """
        if not self._chunks:
            pairs = zip(row, self._params, strict=True)
            return [None if gradient is None else local_gradient(gradient, param) for gradient, param in pairs]
        pieces: list[Tensor | None] = [None] * len(self._params)
        for numbers, chunks in self._chunks:
            found = chunks.scattered([row[p] for p in numbers], what)
            for p, piece in zip(numbers, found, strict=True):
                pieces[p] = piece
        return pieces

    def _by_hooks(
        self,
        names: Sequence[object],
        losses: Sequence[Tensor],
        scale: Tensor | None,
        retain_graph: bool,
        reach: Tensor,
        gathered: bool,
    ) -> Iterator[Row]:
        """Makes ordinary backward passes, and takes from `.grad` what each has left there."""
        check_no_late_hooks(self._params, "fully_shard would run it for each objective")
        everyone = [one.param for one in self._found]
        factor = self.group.size() // self.copies_of_a_batch  # the number of batches, which fully_shard divides by
        self.units.keep_gathered(gathered)
        with (
            self._usable_after_errors(),
            self.units.with_unused(),
            _aside(everyone),
            several_passes(len(losses) + retain_graph),
        ):
            for k, (name, loss) in enumerate(zip(names, losses, strict=True)):
                last = k == len(losses) - 1
                if last:
                    self.units.keep_gathered(False)
                with _marked(self.leaves, reach[k]), waiting(self.group, f"the gradient of objective {name!r}"):
                    given = None if scale is None else scale.to(loss.dtype)
                    torch.autograd.backward(loss * factor, given, retain_graph=retain_graph or not last)
                row = [_local(param.grad) for param in self._params]
                self._check_reduced(row, reach[k].tolist(), name)
                for param in everyone:
                    param.grad = None
                yield row
                del row
            self._check_units(reach, names)

    def _check_units(self, reach: Tensor, names: Sequence[object]) -> None:
        """Raises a ValueError on all processes if an objective reaches a unit on some of them only."""
        counts = torch.zeros(len(reach), len(self.units.modules), dtype=torch.int64, device="cpu")
        counts.index_add_(1, torch.tensor(self._numbers, device="cpu"), reach.long())
        found = (counts > 0).double().to(self._params[0].device)
        with waiting(self.group, "what the objectives reach"):
            dist.all_reduce(found, group=self.group)
        for k, u in ((found > 0) & (found < self.group.size())).nonzero().tolist():
            raise ValueError(APART.format(objective=names[k], unit=self.units.names[u]))

    def _check_reduced(self, row: Row, reached: list[bool], name: object) -> None:
        """Raises a ValueError if a gradient that a pass has made is not in `.grad`."""
        for param, piece, there in zip(self._params, row, reached, strict=True):
            if there and piece is None:
                [known] = [one.name for one in self._found if one.param is param]
                raise ValueError(UNSYNCED.format(name=known, objective=name))

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Opens a context in which autograd reaches `leaves`, whose gradients are this process's own."""
        with self._usable_after_errors(), self.units.gathered():
            yield

    def _usable_after_errors(self) -> AbstractContextManager[None]:
        return self.units.usable_after_errors([one.leaf for one in self._found])

    @contextmanager
    def ordinary_pass(self, params: list[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
        """Opens a context for one backward pass through the units' hooks; yields what it reaches, see `leaves`.

        A parameter that no process reaches keeps its `.grad`: units that add up gradients which are on some processes
        only leave zeros there.
        """
        self.begin(params)
        reach = torch.zeros(1, len(params), dtype=torch.bool, device="cpu")
        empty = [param.grad is None for param in self._params]
        with self._usable_after_errors(), self.units.with_unused(), _marked(self.leaves, reach[0]):
            yield self.leaves
        if self.units.modules:
            _, reach = self.joined(torch.zeros(0, 1, 1, device=self._params[0].device), reach)
            for param, was_empty, reached in zip(self._params, empty, reach[0].tolist(), strict=True):
                if was_empty and not reached:
                    param.grad = None

    def gram_of_grad(self, params: Sequence[nn.Parameter]) -> Tensor:
        """Returns [[squared norm of what is in `.grad`]], over all pieces."""
        return gk.gram([[param.grad for param in params]], reduce=self.group)

    # ---- what becomes of them ----

    def gram(self, rows: Sequence[Row], groups: Sequence[int] | None) -> Tensor:
        """Returns this process's share of the Gramians of pieces, [K, T, T]; all shares add up to them."""
        gradients = read(rows)
        num_groups = check_groups(groups, len(self._params))
        return gram_of_pieces(backend_for(gradients), gradients, groups or [], num_groups, self._copies)

    def merged(self, rows: list[Row], weights: Tensor, reached: Sequence[bool]) -> list[Tensor | None]:
        """Combines pieces where they lie, [P], DTensors as the parameters; None for one that nobody reaches.

        weights: [P, T] or [T], as `gmd_kernels.combine` takes them.
        """
        pieces = gk.combine(rows, weights)
        there = [piece if found else None for piece, found in zip(pieces, reached, strict=True)]
        return like_wholes(there, [param if is_dtensor(param) else None for param in self._params])


def _local(gradient: Tensor | None) -> Tensor | None:
    return gradient.to_local() if is_dtensor(gradient) else gradient


@contextmanager
def _aside(params: Sequence[nn.Parameter]) -> Iterator[None]:
    """Opens a context in which `.grad` is empty, and leaves it as it was."""
    kept = [param.grad for param in params]
    try:
        for param in params:
            param.grad = None
        yield
    finally:
        for param, gradient in zip(params, kept, strict=True):
            param.grad = gradient


@contextmanager
def _marked(leaves: Sequence[Tensor], reached: Tensor) -> Iterator[None]:
    """Opens a context for a backward pass that fills in which leaves it reaches, [P] bool on the CPU."""

    def mark(gradient: Tensor | None, p: int) -> None:
        reached[p] = gradient is not None

    handles = [leaf.register_hook(partial(mark, p=p)) for p, leaf in enumerate(leaves) if leaf.requires_grad]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
