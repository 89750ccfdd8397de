"""The engine where every process has all parameters, in a DistributedDataParallel or without one.

Each objective's gradient over the whole batch is the sum of what the processes have found. Their Gramian has products
of different processes' parts, so the parts have to meet: in a reduce-scatter for each objective, after which a process
has 1/R of each of the T gradients. Then the pieces are combined, and gathered. That is (T + 1) N numbers where an
all-reduce for each objective would be 2 T N.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.distributed as dist
from torch import Tensor, nn

import gmd_kernels as gk
from gmd.surgery._graph import check_graph
from gmd.surgery._losses import Outputs
from gmd.surgery._passes import Row, gradient_of, several_passes
from gmd.surgery._sketches import Sketches
from gmd.surgery._step import Step
from gmd.surgery.processes.flat import Flat
from gmd.surgery.processes.joined import Joined
from gmd.surgery.processes.waiting import waiting


class Replicated(Joined):
    """Makes, joins and delivers gradients of parameters that every process has.

    group: the processes

    Attributes:
        in_step: whether all processes have to make the same passes.
        copies_of_a_batch: how many processes have the same batch.
    """

    in_step = False
    copies_of_a_batch = 1

    def __init__(self, group: dist.ProcessGroup):
        super().__init__(group)
        self._params: list[nn.Parameter] = []
        self._flats: list[tuple[list[int], Flat]] = []  # numbers of the parameters of one type, and where they lie

    def begin(self, params: list[nn.Parameter]) -> None:
        """Takes note of the parameters of a step."""
        if len(params) == len(self._params) and all(a is b for a, b in zip(params, self._params, strict=True)):
            return
        kinds: dict[tuple[torch.dtype, torch.device], list[int]] = {}
        for p, param in enumerate(params):
            kinds.setdefault((param.dtype, param.device), []).append(p)
        self._params = params
        self._flats = [(numbers, Flat([params[p] for p in numbers], self.group)) for numbers in kinds.values()]

    def passes(
        self, names: Sequence[object], losses: Sequence[Tensor | None], scale: Tensor | None, retain_graph: bool
    ) -> tuple[list[Row], Tensor]:
        """Makes a pass for each objective, and scatters each gradient before the next is made.

        losses: [T], times this process's shares; None where it has none

        Returns [T][P] pieces of the whole batch's gradients; and [T, P] bool on the CPU, which gradients were there.
        """
        given = [k for k, loss in enumerate(losses) if loss is not None]
        check_graph([loss for loss in losses if loss is not None])
        rows, reach = [], []
        with several_passes(len(given) + retain_graph):
            for k, loss in enumerate(losses):
                row: list[Tensor | None] = [None] * len(self._params)
                if loss is not None:
                    row = list(gradient_of(loss, self._params, scale, retain_graph or k != given[-1]))
                reach.append([gradient is not None for gradient in row])
                rows.append(self.scattered(row, f"the gradient of objective {names[k]!r}"))
        return rows, torch.tensor(reach, device="cpu")

    def scattered(self, row: list[Tensor | None], what: str) -> Row:
        """Returns this process's pieces of a gradient over the whole batch, [P], from its own, [P].

        row: is empty afterwards, so that its memory is free before anything travels; what: it is, in an error's words
        """
        buffers = [flat.filled([row[p] for p in numbers]) for numbers, flat in self._flats]
        row.clear()
        pieces: list[Tensor | None] = [None] * len(self._params)
        for (numbers, flat), buffer in zip(self._flats, buffers, strict=True):
            shard = flat.scattered(buffer, what)
            for p, piece in zip(numbers, flat.pieces(shard), strict=True):
                pieces[p] = piece
        return pieces

    @property
    def leaves(self) -> list[nn.Parameter]:
        """What autograd's graph has in the place of each parameter, [P]."""
        return self._params

    def gathered(self) -> AbstractContextManager[None]:
        """Opens a context in which autograd reaches `leaves`."""
        return nullcontext()

    def ordinary_pass(self, params: list[nn.Parameter]) -> AbstractContextManager[list[nn.Parameter]]:
        """Opens a context for one backward pass through a DistributedDataParallel; yields the parameters."""
        return nullcontext(params)

    def gram_of_grad(self, params: Sequence[nn.Parameter]) -> Tensor:
        """Returns [[squared norm of what is in `.grad`]], which all processes have alike."""
        return gk.gram([[param.grad for param in params]])

    def gram(self, rows: Sequence[Row], groups: Sequence[int] | None) -> Tensor:
        """Returns this process's share of the Gramians of pieces, [K, T, T]; all shares add up to them."""
        return gk.gram(rows, [0] * len(self._params) if groups is None else groups)

    def sketched(
        self, sketches: Sketches, losses: Sequence[Tensor | None], outputs: Outputs | None, step: Step
    ) -> tuple[Tensor, Tensor]:
        """Folds this process's gradients, and adds up all processes' sketches: those of the whole batch's gradients.

        losses: [T], times this process's shares; None where it has none

        Returns the estimate of their Gramian, [T, T], and what any process reaches, [T, P] bool on the CPU.
        """
        sketches.passes(losses, self._params, step.scale, step.retain_graph, outputs, step.factors)
        reach = sketches.reach.to(sketches.rows.device)
        packed = torch.cat([sketches.rows.flatten(), reach.flatten().to(sketches.rows.dtype)])
        with waiting(self.group, "the sketches of the gradients"):
            dist.all_reduce(packed, group=self.group)
        sketches.rows.copy_(packed[: sketches.rows.numel()].view_as(sketches.rows))
        return sketches.gram(None), packed[sketches.rows.numel() :].view_as(reach).cpu() > 0

    def merged(self, rows: list[Row], weights: Tensor, reached: Sequence[bool]) -> list[Tensor | None]:
        """Combines pieces, and gathers the whole merged gradient, [P]; None for a parameter that nobody reaches.

        rows: is empty afterwards, so that its memory is free before anything travels; weights: [P, T] or [T], as
        `gmd_kernels.combine` takes them.
        """
        shards = []
        of_each = weights.expand(len(self._params), -1)
        for numbers, flat in self._flats:
            shards.append(flat.shard())
            pieces = [[row[p] for p in numbers] for row in rows]
            gk.combine(pieces, of_each[numbers], out=flat.pieces(shards[-1]))
            del pieces
        rows.clear()
        merged: list[Tensor | None] = [None] * len(self._params)
        for (numbers, flat), shard in zip(self._flats, shards, strict=True):
            for p, gradient in zip(numbers, flat.gathered(shard), strict=True):
                merged[p] = gradient if reached[p] else None
        return merged
