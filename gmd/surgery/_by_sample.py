"""The gradients of many objectives from one backward pass, where the samples of a batch do not mix.

Where row i of an output comes from sample i alone, and all objectives send multiples of one vector back into it,
objective k's a_ki u_i, then with J_i the Jacobian of that row

    g_k = sum_i a_ki J_i^T u_i

is a combination of the samples' own gradients. One backward pass, with u, has them all: a linear layer's is the product
of what went into it and what comes back, sample by sample, which takes no more arithmetic than their sum. So it is
before a mean fusion and a linear head for a score or two classes, if the outputs are pooled over the steps.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node

from gmd.surgery._passes import Row

Use = tuple[Node, Node]  # a parameter's leaf, and what it goes into
Layers = dict[Node, tuple[Tensor | None, Tensor | None]]  # node -> its weight and bias, None if frozen or not there
COLLINEAR = 1e-5  # of the cotangents' norm: float32's rounding, and no more
AGREES = 1e-3  # of a gradient's norm: two ways of summing in float32


class Multiples(NamedTuple):
    """Cotangent k of row i is coefficients[k, i] * vectors[i], if that is what `exact` says."""

    coefficients: Tensor  # [K, n]
    vectors: Tensor  # [n, ...], as the output
    exact: Tensor  # bool scalar, on the device


def common_directions(cotangents: Sequence[Tensor]) -> Multiples:
    """Of K cotangents [n, ...]; not exact if those of some row are not multiples of one another.

    Each objective is judged by itself, as a small one is lost among the others; but not each row: what a class that is
    certain sends back into its row is nothing but the rounding of a probability, and has any direction.
    """
    stacked = torch.stack(list(cotangents))
    flat = stacked.flatten(2) if stacked.ndim > 2 else stacked.unsqueeze(-1)  # [K, n, d]
    rows = torch.arange(flat.shape[1], device=flat.device)
    largest = flat[flat.norm(dim=2).argmax(dim=0), rows]  # [n, d]
    square = largest.square().sum(dim=1)
    coefficients = (flat * largest).sum(dim=2) / torch.where(square > 0, square, 1)
    rest = (flat - coefficients.unsqueeze(-1) * largest).norm(dim=(1, 2))
    exact = (rest <= COLLINEAR * flat.norm(dim=(1, 2))).all()  # not so with NaN
    return Multiples(coefficients, largest.view(cotangents[0].shape), exact)


def layers_of(nodes: set[Node]) -> Layers | None:
    """The linear layers and LayerNorms of a path; None if a parameter goes into anything else there."""
    # in the order of the forward pass: a set's own is another one in each process, and a sum's rounding with it
    ordered = sorted(nodes, key=lambda node: node._sequence_nr())
    found = {node: uses for node in ordered if (uses := _uses(node))}
    known = {use for uses in found.values() for use in uses if use is not None}
    turned = {user for _, user in known} - found.keys()
    for node in nodes:
        for function, _ in node.next_functions:
            if function in turned and node not in found:
                return None
            if _is_leaf(function) and (function, node) not in known:
                return None
    return {node: tuple(use and use[0].variable for use in uses) for node, uses in found.items()}


def _uses(node: Node) -> tuple[Use | None, Use | None] | None:
    """The leaf of the weight, and that of the bias, and what it goes into: the layer, or what turns the weight."""
    if node.name() == "AddmmBackward0" and node._saved_alpha == node._saved_beta == 1:
        (bias, _), _, (turned, _) = node.next_functions
        weight = turned.next_functions[0][0] if turned is not None and turned.name() == "TBackward0" else None
        uses = (weight and (weight, turned), bias and (bias, node))
    elif node.name() == "NativeLayerNormBackward0" and len(node._saved_normalized_shape) == 1:
        uses = tuple(leaf and (leaf, node) for leaf, _ in node.next_functions[1:])
    else:
        return None
    leaves = [use[0] for use in uses if use is not None]
    vectors = uses[1] is None or (_is_leaf(uses[1][0]) and uses[1][0].variable.ndim == 1)
    return uses if leaves and all(map(_is_leaf, leaves)) and vectors else None


def _is_leaf(node: Node | None) -> bool:
    return hasattr(node, "variable")


def by_sample(
    output: Tensor, params: Sequence[nn.Parameter], coefficients: Tensor, vectors: Tensor, layers: Layers, keep: bool
) -> list[Row]:
    """[K][P] gradients of what lies before the output, see Multiples; its path is needed afterwards if `keep`."""
    # a pass that does not keep its path forgets what the layers have saved
    inputs = [_input(node) for node in layers]
    edges = [GradientEdge(node, 0) for node in layers]
    sent_back = torch.autograd.grad(output, edges, vectors, retain_graph=keep)
    found: dict[int, Tensor] = {}
    for (node, leaves), x, gradient in zip(layers.items(), inputs, sent_back, strict=True):
        for leaf, of_leaf in zip(leaves, _combined(node, x, gradient, coefficients), strict=True):
            if leaf is not None:
                found[id(leaf)] = found[id(leaf)] + of_leaf if id(leaf) in found else of_leaf
    columns = [found.get(id(param)) for param in params]
    return [[None if c is None else c[k] for c in columns] for k in range(len(coefficients))]


def check_by_sample(output: Tensor, params: Sequence[nn.Parameter], vectors: Tensor, layers: Layers) -> None:
    """Raises ValueError if the samples of a path mix: by a whole pass, for coefficients drawn for the purpose.

    By the norm of the whole gradient: single tensors may have one that is nothing but rounding.
    """
    drawn = torch.randn(1, len(output), generator=torch.Generator().manual_seed(0), dtype=torch.float64, device="cpu")
    coefficients = drawn.to(vectors)
    cotangent = coefficients[0].view(-1, *[1] * (vectors.ndim - 1)) * vectors
    whole = torch.autograd.grad(output, params, cotangent, retain_graph=True, allow_unused=True)
    [sampled] = by_sample(output, params, coefficients, vectors, layers, keep=True)
    pairs = [(ours, theirs) for ours, theirs in zip(sampled, whole, strict=True) if theirs is not None]
    error, norm = (
        torch.stack([part.norm() for part in parts]).norm()
        for parts in ([ours - theirs for ours, theirs in pairs], [theirs for _, theirs in pairs])
    )
    if not error <= AGREES * norm:
        raise ValueError(
            "by_sample: expected row i of an output to come from sample i alone, but gradients taken sample by sample "
            f"differ from those of a whole pass by {100 * float(error / norm):.0f} %; samples mix (a batch norm?), or "
            "stand in another order inside; leave by_sample out"
        )


def _input(node: Node) -> Tensor | None:
    """What went into a layer, [tokens, in], None if its weight is frozen; of a LayerNorm it is normalised, [..., d]."""
    if node.name() == "AddmmBackward0":
        return node._saved_mat1
    return (node._saved_input - node._saved_result1) * node._saved_result2


def _combined(node: Node, x: Tensor | None, gradient: Tensor, coefficients: Tensor) -> tuple[Tensor | None, Tensor]:
    """[K, *weight], [K, *bias]; token t belongs to sample t * n / tokens."""
    n = coefficients.shape[1]
    gradient = gradient.reshape(n, -1, gradient.shape[-1])
    of_bias = coefficients @ gradient.sum(dim=1)
    if x is None:
        return None, of_bias
    x = x.reshape(n, -1, x.shape[-1])
    if node.name() == "NativeLayerNormBackward0":
        return coefficients @ (x * gradient).sum(dim=1), of_bias
    of_samples = torch.bmm(gradient.mT, x)  # [n, out, in]
    return (coefficients @ of_samples.flatten(1)).view(-1, *of_samples.shape[1:]), of_bias
