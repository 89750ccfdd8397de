"""Gradient surgery with any weighting of the Gramian around any torch optimizer, at every step or now and then."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

import gmd_kernels as gk
from gmd.surgery._delivery import add_to_grad, check_no_param_hooks, in_a_group, several_processes
from gmd.surgery._granularity import groups_of, module_names
from gmd.surgery._graph import check_graph, has_compiled_parts
from gmd.surgery._held import Held, check_accumulates
from gmd.surgery._losses import (
    Losses,
    Outputs,
    check_factors,
    check_no_hooks,
    check_outputs,
    check_same_kind,
    named_losses,
)
from gmd.surgery._modes import ordinary_modes
from gmd.surgery._one_pass import one_pass
from gmd.surgery._optimizers import Optimizers, check_network, optimizers_of, parameters_of
from gmd.surgery._options import check_surgeon_options
from gmd.surgery._passes import gradients_of
from gmd.surgery._paths import Basis, Checked, path_gradients
from gmd.surgery._scaling import Scaling
from gmd.surgery._schedule import Schedule, Taken
from gmd.surgery._sketches import SKETCH_SIZE, Sketches, check_kept, gram_error
from gmd.surgery._step import Part, Step, checked_weights, losses_of_part
from gmd.surgery._undone import check_keys, undone_on_error
from gmd.surgery._weighting import LoopWeighting, Weighting, in_loop
from gmd.surgery.processes.agreement import Counts, checked_counts
from gmd.surgery.processes.together import NO_SAMPLE, PathOptions, Together, check_to_agree
from gmd.surgery.report import Report

ORDERS = 16  # random ones, over which weights are averaged that last for several steps


class Surgeon:
    """Replaces `loss.backward()` when there are several losses, by a combination of their gradients.

        surgeon = gmd.Surgeon(optimizer, "upgrad")
        ...
        optimizer.zero_grad()
        report = surgeon.backward(losses)  # instead of sum(losses).backward()
        optimizer.step()

    The weights of the combination are a function of the gradients' inner products (their Gramian), and the same for
    every parameter. `gmd.GMD` is the surgeon whose weights are PCGrad's, and differ for private parameters.

    With `every` a step costs about what an ordinary one does: Gramian and weights are taken at some steps only. The
    steps between make one ordinary backward pass, of the losses' weighted sum, which is the exact combination of that
    step's gradients with the weights kept. (Nash-MTL, Navon et al., ICML 2022, does so too.)

    Args:
        optimizer: any torch optimizer but LBFGS, or a list of them, each with parameters of its own, which you step one
            by one; the parameters that require grad take part in one surgery. Where the network is in a
            DistributedDataParallel, that averages what each process has merged.
        weighting: the name of one of `gmd_kernels.weightings`; or a function from a Gramian, [T, T] float64, to
            weights, [T] float64; or one of them with options and smoothing, a `gmd.Weighting`.
        every: how often weights are taken: at every step (1), at every so many steps, or "auto": at every 4th step to
            begin with, and half as often each time that they have moved by less than a fifth, down to every 32nd
            (`gmd.surgery._schedule`). Weights that depend on a random order are then the mean over several, so that one
            order does not rule over many steps. They are kept for each set of objectives by itself, and taken at once
            for a set that is new. Taking them waits for the device.
        granularity: what is one gradient: that of the whole "model", of each "module" by itself (the one that holds the
            parameter as its own, a layer as a rule), or of each "tensor". With `every` it has to be the whole model, as
            one backward pass has one weight for each loss.
        model: whose modules `granularity="module"` means; not needed for it if the optimizer was made from
            `model.named_parameters()`. And the network whose parameters are sharded: see scope.
        tol: with outputs, the relative error, of each objective's own gradient at an output, up to which these may be
            compressed to few directions. 0 is exact. With `every` the directions serve the Gramian alone, and what is
            merged is exact.
        scaler: the one of mixed precision in float16, as in GMD.
        by_sample: as in GMD.
        scope: where several processes train together, whose gradients are operated on: in "local", each process
            operates on those of its own batch, and a DistributedDataParallel averages what they have merged; in
            "global", it is as if one process had all batches (`gmd.surgery.processes`), and parameters may be sharded
            too (fully_shard, tensor parallelism). With one process there is no difference. Objectives may then differ
            between processes, if losses come by name, and so may the numbers of their samples, if `backward` is given
            these as counts.
        group: the processes of a "global" surgery; all of torch.distributed's by default.
        keep: what is kept of each objective's gradient while the others are made: "gradients", exactly, with the memory
            of T of them; or "sketches", of sketch_size numbers each, with the memory of one gradient and at the price
            of one more backward pass (`gmd.surgery._sketches`). The Gramian is then an unbiased estimate, as far off as
            `report.gram_error` says; what is merged is the exact combination with the weights from it. Weights that are
            not finite are left out as with `every`. With `every` the passes for sketches are paid when weights are
            taken.
        sketch_size: numbers of a sketch. The cosine of two gradients errs by about one over its root: 0.4 % of 65,536.
    """

    def __init__(
        self,
        optimizer: Optimizers,
        weighting: str | Callable[[Tensor], Tensor] | Weighting = "upgrad",
        *,
        every: int | str = 1,
        granularity: str = "model",
        model: nn.Module | None = None,
        tol: float = 0.0,
        scaler: GradScaler | None = None,
        by_sample: bool = False,
        scope: str = "local",
        group: "dist.ProcessGroup | None" = None,
        keep: str = "gradients",
        sketch_size: int = SKETCH_SIZE,
    ):
        self._schedule = Schedule(every)
        check_surgeon_options(every, granularity, tol, scope)
        check_kept(keep, sketch_size, tol, granularity, by_sample)
        self._weighting: LoopWeighting = in_loop(weighting)
        self.optimizer = optimizer
        self.optimizers = optimizers_of(optimizer, sharded=scope == "global")
        check_network(self.optimizers, model)
        self.every = every
        self.granularity = granularity
        self.model = model
        self.tol = tol
        self.scaler = scaler
        self.scope = scope
        self.group = group
        self.keep = keep
        self.sketch_size = sketch_size
        self._together: Together | None = None  # made at the first step: torch.distributed may begin after this
        self._scaling = Scaling(scaler, self.optimizers)
        # the paths that have been compared with whole passes
        self._checked: set[Checked] | None = set() if by_sample else None
        self._modules = module_names(self.optimizers, model) if granularity == "module" else {}
        self._by_name: bool | None = None  # whether losses come by name; None before the first
        self._held = Held()

    @ordinary_modes()
    def backward(
        self,
        losses: Losses,
        outputs: Outputs | None = None,
        factors: Tensor | None = None,
        retain_graph: bool = False,
        part: Part | None = None,
        counts: Counts | None = None,
    ) -> Report:
        """Adds the merged gradient to `.grad` of every parameter, as `Tensor.backward` does.

        Args:
            losses: T scalars that require grad, of the same objectives in the same order at every step; or name ->
                scalar, where some may be absent from a step.
            outputs: the M outputs, one of each modality (a list or a dict of tensors), through which alone the losses
                depend on the parameters before them, in any way. Parameters behind them, a head's, get their exact
                gradients.
            factors: [M], any float type, on the device of the outputs, which have to be given: the gradient that comes
                in at output m is multiplied by factors[m], so that everything before it gets its gradient times that.
            retain_graph: as in `Tensor.backward`: whether the graph is kept for another backward pass, or freed.
            part: where batches are large: a function that returns (losses, outputs or None) of a part of the batch, the
                same objectives by the same names. It is called when weights are to be taken, which then are those of
                the part's Gramian. It has to run the network anew, as its graph is freed; what it runs is outside
                autocast, unless it opens that itself, and has to be under a DistributedDataParallel's `no_sync()`.
            counts: in a "global" surgery, of how many samples (or voxels, or steps) each loss is the mean in this
                process, in a list or a dict as the losses are; by default as many as in the others. See
                `gmd.surgery.processes.agreement`.

        A parameter that no loss reaches keeps its `.grad` as it is. If a loss or gradient may be NaN, look at
        `report.finite` before `optimizer.step()`. Where weights that are to be taken are not finite, those of before
        stay, the report counts it, and the next step takes them again. With `every=1` and one process the device is
        waited for once with `tol`, once with `by_sample` and for each path compared with a whole pass, else never.
        """
        self._find_others()
        with self._held.dropped_afterwards(), self._schedule.undone_on_error(), undone_on_error(self._weighting):
            step = self._checked_by_all(losses, outputs, factors, retain_graph, part, counts)
            by_schedule = self.every != 1 or part is not None or self.keep == "sketches"
            report = self._by_schedule(step) if by_schedule else self._operated(self._agreed(step))
        self._by_name = step.by_name
        return report

    @ordinary_modes()
    def accumulate(self, losses: Losses, outputs: Outputs | None = None, counts: Counts | None = None) -> None:
        """Makes the passes of a part of the batch, a micro-batch, and holds its gradients for the next `backward`.

            for x, y in parts[:-1]:
                surgeon.accumulate(losses_of(x, y), counts=...)
            report = surgeon.backward(losses_of(*parts[-1]), counts=...)

        Then it is as if all parts had come at once, but that the report knows nothing of the outputs. Objectives that
        come by name may be missing from a part. In a "global" surgery 1/R of the T gradients is held, else all of them.

        Args:
            losses: as in `backward`, as are outputs; their graph is freed.
            counts: of how many samples each loss is the mean, as in `backward`; 1 each by default, which is right for
                parts of one size. In a "local" surgery too.

        An error, here or in `backward`, drops all parts: begin the batch anew. What happens between, in `zero_grad`
        say, does not; for that there is `discard`. Parts are in no `state_dict`.

        Raises ValueError with `every`, whose weights outlast the batch, and with `tol`.
        """
        self._find_others()
        with self._held.dropped_on_error():
            step = self._checked_by_all(losses, outputs, None, False, None, counts, True)
            step = self._agreed(step)
            self._held.add(step, self._rows(step.losses, step.outputs, step))
        self._by_name = step.by_name

    def discard(self) -> None:
        """Drops what `accumulate` holds."""
        self._held.clear()

    def _by_schedule(self, step: Step) -> Report:
        """Takes weights if it is time to, and merges by those."""
        self._schedule.begin([p for p, param in enumerate(step.everyone) if param.requires_grad])
        # objectives and outputs by position are the same on all processes
        names = step.by_name or step.counts is not None or isinstance(step.outputs, Mapping)
        step = self._agreed(step) if names else step
        taken = self._schedule.taken(step.names)
        if taken is not None and not self._schedule.is_due(taken):
            return self._between(step, taken)
        return self._refreshed(self._agreed(step))

    def _checked_by_all(self, losses: Losses, *given: Any) -> Step:
        """Returns what `backward` was given; an error of one process is raised by all, if they are about to agree."""
        agrees = self._together is not None and (self.every == 1 or isinstance(losses, Mapping))
        try:
            if self.scope == "global" and len(losses) == 0:
                raise ValueError(NO_SAMPLE)
            step = self._checked_step(losses, *given)
            if agrees:
                check_to_agree(losses, step.outputs)
            return step
        except (TypeError, ValueError) as error:
            if agrees and self._together is not None:
                self._together.refuse(error, parameters_of(self.optimizers))
            raise

    def _checked_step(
        self,
        losses: Losses,
        outputs: Outputs | None,
        factors: Tensor | None,
        retain_graph: bool,
        part: Part | None,
        counts: Counts | None,
        accumulated: bool = False,
    ) -> Step:
        """Returns what `backward` was given; raises an error for what cannot be worked with."""
        named = named_losses(losses)
        if len(named) > gk.MAX_OBJECTIVES:
            raise ValueError(f"losses: expected at most {gk.MAX_OBJECTIVES} objectives, got {len(named)}")
        by_name = check_same_kind(losses, self._by_name)
        if part is not None and self.granularity != "model":
            raise ValueError(
                f"part: expected granularity='model' with it, got {self.granularity!r}: what is merged is one backward "
                "pass, in which each loss has one weight for the whole model"
            )
        everyone = parameters_of(self.optimizers)
        params = [param for param in everyone if param.requires_grad]
        check_no_param_hooks(params)
        check_factors(factors, outputs)
        given = list(named.values())
        scale = self._scaling.scale(given)
        names = tuple(named)
        accumulated = accumulated or bool(self._held)
        if accumulated:
            check_accumulates(self.every, self.tol, part, self.keep)
        numbers = checked_counts(counts, names, by_name, self.scope, accumulated)
        given_as = (outputs, factors, retain_graph, part)
        return Step(names, names, by_name, given, *given_as, everyone, params, scale, numbers)

    def _find_others(self) -> None:
        """Finds the processes of a "global" surgery."""
        if self.scope == "global" and in_a_group():
            self._together = self._together or Together(self.group, parameters_of(self.optimizers), self.model)

    def _agreed(self, step: Step) -> Step:
        """Returns the step with the objectives of all processes of a "global" surgery."""
        return step if self._together is None else self._together.agreed(step, self._schedule.steps, self.tol)

    # ---- a step with a pass for each objective ----

    def _operated(self, step: Step) -> Report:
        """Merges by weights of this step's own gradients, whatever the granularity."""
        basis = self._rows(step.losses, step.outputs, step)
        if self._held:
            step, basis = self._held.with_own(step, basis)
        if self._together is not None:
            basis = self._together.joined(basis, step, self._groups(step.params))
        if basis.grams is not None:
            return self._merged_together(step, basis, *self._weights_together(basis.grams, basis, step))
        surgery = self._surgery(basis, step)
        return self._merged(step, basis, surgery.merged, surgery.gram, surgery.weights)

    def _weights_together(self, grams: Tensor, basis: Basis, step: Step) -> tuple[Tensor, Tensor]:
        """Returns the weights over all processes, [T] or [K, T], and those for each parameter, [T] or [P, T]."""
        weights = self._of_the_first(self._weighting(grams, step.names, step.values))
        groups = self._groups(step.params)
        return weights, weights if groups is None else weights[groups]

    def _merged_together(self, step: Step, basis: Basis, weights: Tensor, of_params: Tensor) -> Report:
        """Merges what all processes have found, and puts it into `.grad`."""
        assert self._together is not None, "who has made the basis"
        assert basis.grams is not None, "which all have joined"
        self._together.merge(step, basis, of_params)
        if step.scale is not None:
            self._scaling.note_unscaled(basis.grams)
        modality = {} if basis.norms is None else {"gradient norm": basis.norms}
        return Report(step.values, basis.grams, weights, basis.directions, basis.discarded, modality, names=step.names)

    def _of_the_first(self, weights: Tensor) -> Tensor:
        """Returns the weights that the first process of a "global" surgery has found."""
        return weights if self._together is None else self._together.of_the_first(weights)

    def _surgery(self, basis: Basis, step: Step) -> gk.Surgery:
        """Returns the surgery on the gradients; here by a weighting."""
        weigh = gk.weightings.batched(lambda gram: self._weighting(gram, step.names, step.values))
        groups = self._groups(step.params)
        return gk.surgery(basis.rows, weigh, groups=groups, mixing=basis.mixing, scale=step.scale)

    def _refreshed(self, step: Step) -> Report:
        """Takes weights anew. Where this step's own gradients are there, merges them; else makes one pass besides."""
        if step.part is not None:
            basis = self._basis(*losses_of_part(step), step._replace(retain_graph=False))
        else:
            sketched = self.keep == "sketches"
            basis = self._basis(step.losses, step.outputs, step, pass_after=self.tol > 0 or sketched)
            if basis.mixing is None and not sketched:
                return self._by_new_weights(basis, step)
        taken = self._take(step, basis.gramian(step.scale), self._private(basis, step))
        directions, discarded = basis.directions, basis.discarded
        del basis  # whose memory the pass may use
        return self._between(step, taken, directions, discarded)

    def _by_new_weights(self, basis: Basis, step: Step) -> Report:
        """Takes weights anew, and merges this step's gradients by them."""
        private = self._private(basis, step)
        if basis.grams is not None:
            one = self._take(step, basis.grams, private)
            report = self._merged_together(step, basis, one.weights, self._of_params(one.weights, private, step))
            return self._told(report, one)
        taken: list[Taken] = []

        def weigh(gram: Tensor) -> Tensor:
            taken.append(self._take(step, gram, private))
            return self._of_params(taken[0].weights, private, step)

        surgery = gk.surgery(basis.rows, weigh, scale=step.scale)
        report = self._merged(step, basis, surgery.merged, surgery.gram, taken[0].weights)
        return self._told(report, taken[0])

    def _merged(self, step: Step, basis: Basis, merged: list[Tensor | None], gram: Tensor, weights: Tensor) -> Report:
        """Brings what was merged into `.grad`."""
        add_to_grad(step.params, merged, step.losses)
        if step.scale is not None:
            # an overflow in another process shows in what they have averaged, and nowhere else
            self._scaling.note_unscaled(self._gram_of_grad(step) if several_processes() else gram)
        modality = {} if basis.norms is None else {"gradient norm": basis.norms}
        return Report(step.values, gram, weights, basis.directions, basis.discarded, modality, names=step.names)

    # ---- a step with one pass ----

    def _between(
        self,
        step: Step,
        taken: Taken,
        directions: tuple[int, ...] | None = None,
        discarded: Tensor | None = None,
    ) -> Report:
        """Makes one ordinary backward pass of the losses' sum, weighted as they were when weights were taken."""
        outputs = [] if step.outputs is None else check_outputs(step.outputs)
        weights = taken.weights if self._together is None else self._together.weights_of_own(taken.weights, step)
        with self._ordinary_pass(step) as leaves:
            in_graph = dict(zip(step.params, leaves, strict=True))
            norms = one_pass(
                step.losses,
                weights,
                leaves,
                outputs,
                step.factors,
                {in_graph[param]: factor for param, factor in self._factors(taken.private, step).items()},
                step.scale,
                step.retain_graph,
                alone=not in_a_group(),  # where every parameter that the graph reaches is waited for
                again=taken.compiled,
            )
        gram = self._gram_of_grad(step)
        if step.scale is not None:
            self._scaling.note_unscaled(gram)
        if self._together is not None:
            self._together.check_averaged(gram[0, 0])
            norms = None if norms is None else self._together.norms_of_pass(norms, step)
        modality = {} if norms is None else {"gradient norm": norms}
        told = (directions, discarded, modality, gram[0, 0])
        return self._told(Report(step.values, taken.gram, taken.weights, *told, names=step.names), taken)

    def _ordinary_pass(self, step: Step) -> AbstractContextManager[list[nn.Parameter]]:
        """Opens a context for one pass; yields what autograd's graph has in the place of each parameter, [P]."""
        return nullcontext(step.params) if self._together is None else self._together.engine.ordinary_pass(step.params)

    # ---- parts of both ----

    def _take(self, step: Step, gram: Tensor, private: tuple[int, ...]) -> Taken:
        """Takes weights from a Gramian, and returns what is to be used from now on."""
        weights = self._of_the_first(checked_weights(self._weights(gram, step.names, step.values), gram))
        compiled = has_compiled_parts(step.losses)
        return self._schedule.take(Taken(step.names, weights, gram, private, self._schedule.steps, compiled=compiled))

    def _weights(self, gram: Tensor, names: tuple[Hashable, ...], losses: Tensor) -> Tensor:
        """Returns the weights that shared parameters get until they are taken anew, [T]."""
        if self.every == 1 or not self._weighting.in_random_order:  # they last for this step only, or are the same
            return self._weighting(gram, names, losses)
        return self._weighting(gram.expand(ORDERS, *gram.shape), names, losses).mean(dim=0)

    def _private_factor(self, num_objectives: int) -> float:
        """Returns what the weights are multiplied with for a private parameter."""
        return 1.0

    def _factors(self, private: Sequence[int], step: Step) -> dict[nn.Parameter, float]:
        """Returns what the gradients of single parameters are multiplied with besides the weights."""
        factor = self._private_factor(len(step.names))
        return {} if factor == 1 else {step.everyone[p]: factor for p in private}

    def _of_params(self, weights: Tensor, private: Sequence[int], step: Step) -> Tensor:
        """Returns the weights for each of the parameters, [P, T], or [T] if they are all alike."""
        factors = self._factors(private, step)
        if not factors:
            return weights
        of_each = torch.tensor([factors.get(param, 1.0) for param in step.params], dtype=weights.dtype, device="cpu")
        return of_each.to(weights.device).unsqueeze(-1) * weights

    def _private(self, basis: Basis, step: Step) -> tuple[int, ...]:
        """Returns the numbers, among all parameters, of those that some objectives reach, but not all."""
        numbers = (p for p, param in enumerate(step.everyone) if param.requires_grad)
        return tuple(number for number, private in zip(numbers, basis.private(), strict=True) if private)

    def _told(self, report: Report, taken: Taken) -> Report:
        """Adds to a report when the weights were taken, and gives it tensors of its own."""
        age, failures = self._schedule.age(taken), self._schedule.failures
        report = replace(report, grams=report.grams.clone(), weights=report.weights.clone())
        report = replace(report, refreshed=age == 0, age=age, interval=taken.interval, failures=failures)
        return (
            replace(report, gram_error=gram_error(taken.gram, self.sketch_size)) if self.keep == "sketches" else report
        )

    def _gram_of_grad(self, step: Step) -> Tensor:
        if self._together is not None:
            return self._together.engine.gram_of_grad(step.params)
        return gk.gram([[param.grad for param in step.params]])

    def _groups(self, params: list[nn.Parameter]) -> list[int] | None:
        if self.granularity == "module" and not self._modules.keys() >= set(params):  # added since
            self._modules = module_names(self.optimizers, self.model)
        return groups_of(params, self.granularity, self._modules)

    def _basis(self, losses: list[Tensor], outputs: Outputs | None, step: Step, pass_after: bool = False) -> Basis:
        """Returns the gradients of losses, of a batch or of a part of it; for `pass_after`, see `path_gradients`."""
        if self.keep == "sketches":
            return self._sketched(losses, outputs, step._replace(retain_graph=step.retain_graph or pass_after))
        basis = self._rows(losses, outputs, step, pass_after)
        return basis if self._together is None else self._together.joined(basis, step, self._groups(step.params))

    def _rows(self, losses: list[Tensor], outputs: Outputs | None, step: Step, pass_after: bool = False) -> Basis:
        """Returns the gradients, as `_basis` does; of a "global" surgery what this process has, nothing yet joined."""
        if self._together is not None:
            return self._together.basis(losses, outputs, step, PathOptions(self.tol, self._checked, pass_after))
        if outputs is None:
            check_graph(losses)
            return Basis(gradients_of(losses, step.params, step.scale, step.retain_graph))
        found = check_outputs(outputs)
        check_no_hooks(outputs)
        kept = (step.retain_graph, pass_after)
        return path_gradients(losses, found, step.params, self.tol, step.scale, step.factors, self._checked, *kept)

    def _sketched(self, losses: list[Tensor], outputs: Outputs | None, step: Step) -> Basis:
        """Returns the Gramian of the gradients' sketches, and which parameters they reach."""
        # the number of the step is the same on all processes, and goes on where a training is resumed
        sketches = Sketches(len(step.names), step.params, self.sketch_size, self._schedule.steps)
        if self._together is not None:
            return self._together.sketched(sketches, losses, outputs, step)
        sketches.passes(losses, step.params, step.scale, step.retain_graph, outputs, step.factors)
        return Basis([], reach=sketches.reach, grams=sketches.gram(step.scale))

    def state_dict(self) -> dict[str, Any]:
        """Returns what is kept from step to step, as tensors and plain values; names stay what they are."""
        return {"schedule": self._schedule.state_dict(), "weighting": self._weighting.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` has returned; the device of its tensors becomes that of the parameters.

        Raises ValueError for the state of a surgeon with another `every` or weighting, or of other parameters, and
        changes nothing then.
        """
        check_keys("state", self.state_dict(), state)
        params = parameters_of(self.optimizers)
        schedule = self._schedule.copy()
        schedule.load_state_dict(state["schedule"], params[0].device, len(params))
        self._weighting.load_state_dict(state["weighting"])
        self._schedule = schedule
