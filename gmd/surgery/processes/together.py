"""One step of a surgery over several processes: what they agree on, what each has, and what comes of it."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

import gmd_kernels as gk
from gmd.surgery._delivery import add_to_grad, put_in_grad
from gmd.surgery._graph import check_graph, find_paths
from gmd.surgery._losses import Losses, Outputs, check_no_hooks, check_outputs, named_losses
from gmd.surgery._paths import Basis, Checked, norms_at
from gmd.surgery._sketches import Sketches
from gmd.surgery._step import Step
from gmd.surgery.processes.agreement import Agreement
from gmd.surgery.processes.averaged import Averaged
from gmd.surgery.processes.replicated import Replicated
from gmd.surgery.processes.sharded import ShardedEngine
from gmd.surgery.processes.through_outputs import Asked, Engine, through_outputs
from gmd.surgery.processes.told import kind_of, output_names, places_of
from gmd_kernels.pieces import is_dtensor

NO_SAMPLE = (
    "losses: expected at least one objective, got none: a process that has no sample gives a zero that hangs on the "
    "network, 0 * output.sum() say, with a count of 0"
)


class PathOptions(NamedTuple):
    """How to go through the paths before outputs, see `path_gradients`."""

    tol: float
    checked: set[Checked] | None
    pass_after: bool


class Together:
    """The processes of a "global" surgery, as one of them sees them.

    Args:
        group: the processes, all of which make the same calls.
        params: of the optimizers.
        network: that has them, where they are sharded.

    Attributes:
        engine: makes gradients over all of them, by how the parameters lie.
    """

    def __init__(self, group: "dist.ProcessGroup | None", params: Sequence[nn.Parameter], network: nn.Module | None):
        group = group or dist.group.WORLD
        assert group is not None, "there is one, as torch.distributed is initialized"
        self._group = group
        self._agreement = Agreement(group)
        self._averaged = Averaged(group)
        self.engine: Engine
        if any(map(is_dtensor, params)):
            assert network is not None, "without which sharded parameters are refused"
            self.engine = ShardedEngine(group, network)
        else:
            self.engine = Replicated(group)

    def agreed(self, step: Step, steps: int, tol: float) -> Step:
        """Returns the step with the objectives of all processes; steps: so many were made before it, on all."""
        if step.agreed is not None:
            return step
        losses = dict(zip(step.own_names, step.losses, strict=True))
        counts = step.counts or [1.0] * len(losses)
        kind = kind_of(losses, step.by_name, step.outputs)
        numbers = sum(param.numel() for param in step.params)
        told = f"{kind}, {len(step.params)} parameters of {numbers} numbers, step {steps}"
        told += f", tol {tol}" if step.outputs is not None else ""
        if self.engine.in_step and step.outputs is None:
            told += f", losses {', '.join(map(repr, losses))}"
        agreed = self._agreement.reach(losses, counts, told, output_names(step.outputs))
        if len(agreed.names) > gk.MAX_OBJECTIVES:
            raise ValueError(f"losses: expected at most {gk.MAX_OBJECTIVES} objectives, got {len(agreed.names)} in all")
        return step._replace(names=agreed.names, agreed=agreed)

    def refuse(self, error: Exception, params: Sequence[nn.Parameter]) -> None:
        """Tells the other processes that this one has refused what it was given, if they are about to agree."""
        self._agreement.refuse(error, params[0].device)

    def basis(self, losses: Sequence[Tensor], outputs: Outputs | None, step: Step, options: PathOptions) -> Basis:
        """Returns this process's pieces of the gradients over all processes, which are still to be `joined`.

        losses: of this process, of its batch or of a part of it
        """
        assert step.agreed is not None, "as at every step that takes weights"
        self.engine.begin(step.params)
        terms = self._terms(losses, step, outputs is None)
        if outputs is None:
            rows, reach = self.engine.passes(step.agreed.names, terms, step.scale, step.retain_graph)
            # a stand-in may hang on more of the network than its objective
            return Basis(rows, reach=reach & (torch.tensor(step.agreed.shares) > 0)[:, None])
        found = check_outputs(outputs)
        check_no_hooks(outputs)
        asked = Asked(
            step.agreed.names,
            terms,
            found,
            *places_of(outputs, step.agreed.outputs),
            self.engine.leaves,
            options.tol,
            step.scale,
            step.factors,
            options.checked,
            step.retain_graph,
            options.pass_after,
        )
        with self.engine.gathered():
            return through_outputs(self.engine, asked)

    def joined(self, basis: Basis, step: Step, groups: Sequence[int] | None) -> Basis:
        """Returns the basis with the objectives' Gramian over all processes, and what any process reaches.

        groups: of the parameters, or None
        """
        assert basis.reach is not None, "which `basis` has found"
        grams = self.engine.gram(basis.rows, groups)
        k, at_outputs = len(grams), basis.at_outputs
        if at_outputs is not None and not basis.joined:  # in one all-reduce with the Gramian
            grams = torch.cat([grams, at_outputs])
        filled = torch.tensor([[param.grad is not None for param in step.params]], device="cpu")
        grams, reach = self.engine.joined(grams, torch.cat([basis.reach, filled]))
        if at_outputs is not None and not basis.joined:
            grams, at_outputs = grams[:k], grams[k:]
        if basis.mixing is not None:
            mixing = basis.mixing.to(grams.device)
            grams = mixing @ grams @ mixing.T
            grams = (grams + grams.mT) / 2
        norms = None if at_outputs is None else self._norms_of_own(at_outputs, step)
        grams = grams if step.scale is None else grams / step.scale / step.scale
        in_grad, reach = bool(reach[-1].any()), reach[:-1]
        return basis._replace(grams=grams if groups else grams[0], reach=reach, norms=norms, in_grad=in_grad)

    def _norms_of_own(self, at_outputs: Tensor, step: Step) -> Tensor:
        """Returns the norm of the whole batch's mean loss at each of this process's outputs."""
        assert step.agreed is not None, "as at every step that takes weights"
        places, _ = places_of(step.outputs, step.agreed.outputs)
        return norms_at(at_outputs, step.scale)[places]

    def _terms(self, losses: Sequence[Tensor], step: Step, whole_passes: bool) -> list[Tensor | None]:
        """Returns what this process adds to each of the T objectives of all processes.

        whole_passes: whether each is one backward pass, which some engines make in step
        """
        assert step.agreed is not None, "as at every step that takes weights"
        own = dict(zip(step.own_names, losses, strict=True))
        in_step = self.engine.in_step and whole_passes
        shares = zip(step.agreed.names, step.agreed.shares, strict=True)
        return [self._term(own.get(name), share, in_step) for name, share in shares]

    def _term(self, loss: Tensor | None, share: float, in_step: bool) -> Tensor | None:
        """Returns what this process adds to an objective; None where it makes no pass for it.

        in_step: whether all processes make the same passes
        """
        if loss is None or (share == 0 and not in_step):
            return None
        return loss * (share * self.engine.copies_of_a_batch)

    def sketched(self, sketches: Sketches, losses: Sequence[Tensor], outputs: Outputs | None, step: Step) -> Basis:
        """Returns the Gramian of the gradients' sketches over all processes, and which parameters they reach.

        sketches: T that are empty; losses and outputs: as in `basis`
        """
        self.engine.begin(step.params)
        terms = self._terms(losses, step, whole_passes=True)
        grams, reach = self.engine.sketched(sketches, terms, outputs, step)
        return Basis([], reach=reach, grams=grams if step.scale is None else grams / step.scale / step.scale)

    def of_the_first(self, weights: Tensor) -> Tensor:
        """Returns the weights that the first process has found: it may have drawn another order."""
        return self.engine.agreed(weights)

    def merge(self, step: Step, basis: Basis, weights: Tensor) -> None:
        """Combines this process's pieces, which the basis loses, and adds what all have combined to `.grad`.

        weights: [T] or [P, T]
        """
        assert basis.reach is not None, "which `basis` has found"
        weights = weights if step.scale is None else weights / step.scale
        weights = weights if basis.mixing is None else weights @ basis.mixing.to(weights.device)
        assert isinstance(basis.rows, list), "as all engines make them"
        merged = self.engine.merged(basis.rows, weights, basis.reach.any(dim=0).tolist())
        if basis.in_grad and not is_dtensor(step.params[0]):
            # a DistributedDataParallel averages what is there of micro-batches under its `no_sync()`
            add_to_grad(step.params, merged, step.losses)
        else:
            put_in_grad(step.params, merged)

    def check_averaged(self, squared_norm: Tensor) -> None:
        """Raises a RuntimeError on all processes if an ordinary pass has left another `.grad` on each; looks once."""
        self._averaged.check(squared_norm)

    def norms_of_pass(self, norms: Tensor, step: Step) -> Tensor:
        """Returns the whole batch's norms at this process's outputs, from its own in an ordinary pass, [m]."""
        names = output_names(step.outputs) if step.agreed is None else step.agreed.outputs
        copies = self.engine.copies_of_a_batch
        return self._averaged.norms(norms, *places_of(step.outputs, names), copies)

    def weights_of_own(self, weights: Tensor, step: Step) -> Tensor:
        """Returns the weights of this process's losses, whose gradients are averaged over the processes afterwards.

        weights: [T], of the losses over all processes
        """
        if step.agreed is None:  # each has as many samples as the others
            return weights
        shares = dict(zip(step.names, step.agreed.shares, strict=True))
        places = {name: place for place, name in enumerate(step.names)}
        index = [places.get(name, 0) for name in step.own_names]  # of a stand-in, any
        factors = [self._group.size() * shares.get(name, 0.0) for name in step.own_names]
        return weights[index] * torch.tensor(factors, dtype=weights.dtype).to(weights.device)


def check_to_agree(losses: Losses, outputs: Outputs | None) -> None:
    """Raises a ValueError for losses and outputs that no process can work with, before others wait for this one."""
    named = named_losses(losses)
    if outputs is None:
        check_graph(named.values())
    else:
        check_no_hooks(outputs)
        find_paths(list(named.values()), check_outputs(outputs))
