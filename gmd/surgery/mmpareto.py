"""MMPareto: a modality's own loss helps its encoder without harm to the joint one (Wei and Hu, ICML 2024)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

import gmd_kernels as gk
from gmd.surgery._delivery import add_to_grad, check_no_param_hooks, several_processes
from gmd.surgery._graph import check_graph, leaves_of
from gmd.surgery._losses import Losses, Outputs, check_factors, check_losses, check_no_hooks, check_outputs
from gmd.surgery._modes import ordinary_modes
from gmd.surgery._optimizers import Optimizers, optimizers_of, parameters_of
from gmd.surgery._passes import Row, gradients_of
from gmd.surgery._paths import Basis, path_gradients
from gmd.surgery._scaling import Scaling
from gmd.surgery.report import Report

# of the length of its parts; in a tensor where the combination is shorter, only rounding is left of it
ROUNDING = 1e-5
# the multimodal loss's share where its gradient is zero, and where the modality's is, as in the published solver
NO_MULTIMODAL, NO_UNIMODAL = 0.999, 0.001
NO_ENCODER = (
    "losses: expected parameters that the first loss and the loss of one modality reach, and no other does, an "
    "encoder's, got none. A network that the modalities share has no such part, and behind torch.compile every loss "
    "seems to reach every parameter: compile the encoders each by itself"
)


class MMPareto:
    """Adds a loss of each modality alone to the multimodal one, and lets the two agree in each modality's encoder.

        surgeon = gmd.MMPareto(optimizer)
        ...
        optimizer.zero_grad()
        surgeon.backward({"all": loss_of_all, "audio": loss_of_audio, "video": loss_of_video})
        optimizer.step()

    In the encoder of modality m two gradients meet, g of the multimodal loss and u of the modality's own. If g . u > 0
    over the whole encoder, their shares are k = 1/2 each; otherwise those of the shortest vector k g + (1 - k) u (the
    Pareto direction, MGDA for two), k = (u . u - g . u) / |g - u|^2. Each tensor p of the encoder then gets

        gamma * max(1, |g_p + u_p| / |d_p|) * d_p        d = 2 k g + 2 (1 - k) u

    so that it is never shorter than the plain sum. Where nothing but rounding is left of d_p, the second factor is 1.
    Every other parameter, of heads and of what modalities share, gets the sum of the gradients.

    What is an encoder the graph tells: the parameters that the multimodal loss and one modality's reach, and no other
    loss. With `outputs`, only those before the outputs; without, a head of one modality that the multimodal loss goes
    through too counts as a part of its encoder.

    For M modalities the published code makes M + 2 backward passes through the whole network, copies every gradient of
    the encoders twice, waits for the device at each of their tensors, and knows encoders and heads by words in the
    names of parameters. Here there are M + 1 passes, with `outputs` two through each encoder and M + 1 through the
    heads alone, and one read of the gradients for all inner products.

    Args:
        optimizer: any torch optimizer but LBFGS, or a list of them, as in GMD. Where the network is in a
            DistributedDataParallel, that averages what each process has merged.
        gamma: above 0, the paper's factor of the encoders' gradients. Under Adam it has no effect.
        scaler: as in GMD: the losses come unscaled, and `.grad` does too.
    """

    def __init__(self, optimizer: Optimizers, gamma: float = 1.5, scaler: GradScaler | None = None):
        if not 0 < gamma < float("inf"):
            raise ValueError(f"gamma: expected a finite number above 0, got {gamma}")
        self.optimizer = optimizer
        self.optimizers = optimizers_of(optimizer)
        self.gamma = gamma
        self.scaler = scaler
        self._scaling = Scaling(scaler, self.optimizers)

    @ordinary_modes()
    def backward(
        self,
        losses: Losses,
        outputs: Outputs | None = None,
        factors: Tensor | None = None,
        retain_graph: bool = False,
    ) -> Report:
        """Adds the merged gradient to `.grad`.

        Args:
            losses: T scalars, the multimodal one first, then one of each modality that the batch has; a list, or a dict
                with any names.
            outputs: as in `GMD.backward`, as are the others.

        The report's Gramians are [T, T, T] and its weights [T, T], of T groups of parameters: first of all those that
        get the sum, with weights of 1, then of each modality's encoder, without the factor of single tensors. Nothing
        waits for the device.

        Raises ValueError: no parameter belongs to an encoder of one modality.
        """
        given = check_losses(losses)
        if len(given) > gk.MAX_OBJECTIVES:
            raise ValueError(f"losses: expected at most {gk.MAX_OBJECTIVES} objectives, got {len(given)}")
        check_factors(factors, outputs)
        params = [param for param in parameters_of(self.optimizers) if param.requires_grad]
        check_no_param_hooks(params)
        behind = _behind(given, outputs)
        scale = self._scaling.scale(given)
        basis = _basis(given, outputs, params, scale, factors, retain_graph)
        owners = _owners(basis.rows, params, behind)
        grams = gk.gram(basis.rows, groups=range(len(params)))
        grams = grams if scale is None else grams / scale / scale
        of_groups, weights, of_params = pareto_weights(grams, owners.to(grams.device, non_blocking=True), self.gamma)
        merged = gk.combine(basis.rows, of_params if scale is None else of_params / scale)
        add_to_grad(params, merged, given)
        if scale is not None:
            self._note(of_groups, params)
        values = torch.stack([loss.detach() for loss in given])
        modality = {} if basis.norms is None else {"gradient norm": basis.norms}
        return Report(values, of_groups, weights, basis.directions, basis.discarded, modality)

    def _note(self, grams: Tensor, params: list[nn.Parameter]) -> None:
        """Tells the scaler whether gradients have overflown."""
        # an overflow in another process shows in what they have averaged, and nowhere else
        self._scaling.note_unscaled(gk.gram([[p.grad for p in params]]) if several_processes() else grams)


def _behind(losses: list[Tensor], outputs: Outputs | None) -> set[int]:
    """Returns the ids of the parameters behind the outputs; none without outputs."""
    return set() if outputs is None else {id(leaf) for leaf in leaves_of(losses, check_outputs(outputs))}


def _basis(
    losses: list[Tensor],
    outputs: Outputs | None,
    params: list[nn.Parameter],
    scale: Tensor | None,
    factors: Tensor | None,
    retain_graph: bool,
) -> Basis:
    """Returns the gradients of each loss, exact."""
    if outputs is None:
        check_graph(losses)
        return Basis(gradients_of(losses, params, scale, retain_graph))
    check_no_hooks(outputs)
    found = check_outputs(outputs)
    return path_gradients(losses, found, params, scale=scale, factors=factors, retain_graph=retain_graph)


def _owners(rows: Sequence[Row], params: Sequence[nn.Parameter], behind: set[int]) -> Tensor:
    """Returns the number of the loss whose modality's encoder each parameter is in, [P] int64; 0 for any other."""
    owners = []
    for param, column in zip(params, zip(*rows, strict=True), strict=True):
        reach = [k for k, gradient in enumerate(column) if gradient is not None]
        owners.append(reach[1] if len(reach) == 2 and reach[0] == 0 and id(param) not in behind else 0)
    if len(rows) > 1 and not any(owners):
        raise ValueError(NO_ENCODER)
    return torch.tensor(owners, device="cpu")


def pareto_weights(grams: Tensor, owners: Tensor, gamma: float) -> tuple[Tensor, Tensor, Tensor]:
    """Finds MMPareto's weights from the Gramian of each parameter's gradients.

    Args:
        grams: [P, T, T] float64, the multimodal loss first.
        owners: [P] int64, see `_owners`.
        gamma: see MMPareto.

    Returns:
        The Gramians of T groups of parameters, those of owner k, [T, T, T]; their weights before the factor of single
        tensors, [T, T]; and the weights of each parameter, [P, T].
    """
    size = grams.shape[-1]
    members = nn.functional.one_hot(owners, size).to(grams)
    of_groups = torch.einsum("pk,pij->kij", members, grams)
    groups = torch.arange(size, device=grams.device)
    share = multimodal_share(*_squares(of_groups, groups))
    weights = _weights(groups, size, share, torch.full_like(share, gamma))
    stretch = _stretch(*_squares(grams, owners), share[owners])
    return of_groups, weights, _weights(owners, size, share[owners], gamma * stretch)


def _squares(grams: Tensor, owners: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns g . g, g . u and u . u of the multimodal loss and the owner's, [P] each."""
    number = torch.arange(len(owners), device=grams.device)
    return grams[:, 0, 0], grams[number, 0, owners], grams[number, owners, owners]


def multimodal_share(g_g: Tensor, g_u: Tensor, u_u: Tensor) -> Tensor:
    """Returns the share k of the multimodal gradient g beside the modality's u, of any shape: see MMPareto."""
    square = g_g + u_u - 2 * g_u
    pareto = (u_u - g_u) / torch.where(square > 0, square, 1.0)
    pareto = torch.where(u_u == 0, NO_UNIMODAL, pareto)
    pareto = torch.where(g_g == 0, NO_MULTIMODAL, pareto)
    return torch.where(g_u > 0, 0.5, pareto)


def _stretch(g_g: Tensor, g_u: Tensor, u_u: Tensor, share: Tensor) -> Tensor:
    """Returns max(1, |g + u| / |d|) for each tensor, [P], with d = 2 k g + 2 (1 - k) u; 1 where d is only rounding."""
    total = (g_g + 2 * g_u + u_u).clamp(min=0)
    first, own = 2 * share, 2 - 2 * share
    combined = first * first * g_g + 2 * first * own * g_u + own * own * u_u
    least = (ROUNDING * (first * g_g.sqrt() + own * u_u.sqrt())).square()
    sound = combined > least
    return torch.where(sound, (total / torch.where(sound, combined, 1.0)).sqrt(), 1.0).clamp(min=1)


def _weights(owners: Tensor, size: int, share: Tensor, factor: Tensor) -> Tensor:
    """Returns factor * 2 k for the multimodal loss and factor * 2 (1 - k) for the owner's, [P, T]; 1 without owner."""
    weights = nn.functional.one_hot(owners, size) * (2 - 2 * share).unsqueeze(-1)
    weights = torch.cat([2 * share.unsqueeze(-1), weights[:, 1:]], dim=-1) * factor.unsqueeze(-1)
    return torch.where((owners > 0).unsqueeze(-1), weights, 1.0)
