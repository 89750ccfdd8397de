"""Finds the gradients of many objectives in one backward pass, where the samples of a batch do not mix.

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

from gmd.surgery._graph import Leaf, is_leaf
from gmd.surgery._passes import Row


class Use(NamedTuple):
    """A parameter and the node that uses it: the layer, or the transposition of the weight before the layer."""

    leaf: Leaf
    user: Node


Uses = tuple[Use | None, Use | None]  # of a layer's weight and of its bias
Layers = dict[Node, tuple[Tensor | None, Tensor | None]]  # node -> its weight and bias, None if frozen or not there
COLLINEAR = 1e-5  # of the cotangents' norm: float32's rounding, and no more
AGREES = 1e-3  # of a gradient's norm: two ways of summing in float32


class Multiples(NamedTuple):
    """K cotangents of one output: that of row i is coefficients[k, i] * vectors[i], if `exact` is true."""

    coefficients: Tensor  # [K, n]
    vectors: Tensor  # [n, ...], as the output
    exact: Tensor  # bool scalar, on the device


def common_directions(cotangents: Sequence[Tensor]) -> Multiples:
    """Returns K cotangents [n, ...] as multiples of one vector in each row; `exact` is false if they are none.

    Each objective is judged by itself, as a small one is lost among the others. Rows are not: what a class that is
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
    """Returns the linear layers and LayerNorms of a path; None if a parameter goes into anything else there."""
    # in the order of the forward pass: a set's own is another one in each process, and a sum's rounding with it
    ordered = sorted(nodes, key=lambda node: node._sequence_nr())
    found = {node: uses for node in ordered if (uses := _uses(node))}
    if not _have_all_parameters(found, nodes):
        return None
    return {
        node: (weight and weight.leaf.variable, bias and bias.leaf.variable) for node, (weight, bias) in found.items()
    }


def _have_all_parameters(layers: dict[Node, Uses], nodes: set[Node]) -> bool:
    """Returns whether all parameters of a path go into these layers, and nowhere else."""
    known = {use for uses in layers.values() for use in uses if use is not None}
    turned = {use.user for use in known} - layers.keys()
    for node in nodes:
        for function, _ in node.next_functions:
            if function in turned and node not in layers:
                return False
            if is_leaf(function) and Use(function, node) not in known:
                return False
    return True


def _uses(node: Node) -> Uses | None:
    """Returns the parameters of a linear layer or LayerNorm; None if a node is neither, or has no parameters there."""
    if _is_linear(node):
        (bias, _), _, (turned, _) = node.next_functions
        if turned is not None and turned.name() == "TBackward0":
            weight, user = turned.next_functions[0][0], turned
        else:
            weight, user = None, node
    elif _is_layer_norm(node):
        _, (weight, _), (bias, _) = node.next_functions
        user = node
    else:
        return None
    uses = _use(weight, user), _use(bias, node)
    parameters = sum(use is not None for use in uses)
    if parameters == 0 or parameters < sum(end is not None for end in (weight, bias)):
        return None
    return None if uses[1] is not None and uses[1].leaf.variable.ndim != 1 else uses


def _use(leaf: Node | None, user: Node) -> Use | None:
    return Use(leaf, user) if is_leaf(leaf) else None


# what the forward pass saved is found at run time only, on the nodes that autograd makes in C++


def _is_linear(node: Node) -> bool:
    return node.name() == "AddmmBackward0" and _saved(node, "alpha") == _saved(node, "beta") == 1


def _is_layer_norm(node: Node) -> bool:
    """Returns whether a node is a LayerNorm over the last dimension alone."""
    if node.name() != "NativeLayerNormBackward0":
        return False
    shape = _saved(node, "normalized_shape")
    return isinstance(shape, Sequence) and len(shape) == 1


def _saved(node: Node, what: str) -> object:
    saved: object = getattr(node, f"_saved_{what}")
    return saved


def _saved_tensor(node: Node, what: str) -> Tensor:
    saved = _saved(node, what)
    assert isinstance(saved, Tensor), f"{node.name()} saves its {what}"
    return saved


def by_sample(
    output: Tensor, params: Sequence[nn.Parameter], coefficients: Tensor, vectors: Tensor, layers: Layers, keep: bool
) -> list[Row]:
    """Returns [K][P] gradients of the parameters before the output, from its Multiples; `keep` keeps the path."""
    # a pass that does not keep its path forgets what the layers have saved
    inputs = [_input(node) for node in layers]
    edges = [GradientEdge(node, 0) for node in layers]
    sent_back = torch.autograd.grad(output, edges, vectors, retain_graph=keep)
    found: dict[int, Tensor] = {}
    for (node, leaves), x, gradient in zip(layers.items(), inputs, sent_back, strict=True):
        for leaf, of_leaf in zip(leaves, _combined(node, x, gradient, coefficients), strict=True):
            if leaf is not None and of_leaf is not None:
                found[id(leaf)] = found[id(leaf)] + of_leaf if id(leaf) in found else of_leaf
    columns = [found.get(id(param)) for param in params]
    return [[None if c is None else c[k] for c in columns] for k in range(len(coefficients))]


def check_by_sample(output: Tensor, params: Sequence[nn.Parameter], vectors: Tensor, layers: Layers) -> None:
    """Raises a ValueError if the samples of a path mix, which a whole pass with random coefficients tells.

    It compares the norm of the whole gradient, as single tensors may have a gradient that is nothing but rounding.
    """
    drawn = torch.randn(1, len(output), generator=torch.Generator().manual_seed(0), dtype=torch.float64, device="cpu")
    coefficients = drawn.to(vectors)
    cotangent = coefficients[0].view(-1, *[1] * (vectors.ndim - 1)) * vectors
    whole = torch.autograd.grad(output, params, cotangent, retain_graph=True, allow_unused=True)
    [sampled] = by_sample(output, params, coefficients, vectors, layers, keep=True)
    differences, norms = [], []
    for ours, theirs in zip(sampled, whole, strict=True):
        if theirs is not None:
            assert ours is not None, "layers_of has found every parameter of the path"
            differences.append((ours - theirs).norm())
            norms.append(theirs.norm())
    error, norm = torch.stack(differences).norm(), torch.stack(norms).norm()
    if not error <= AGREES * norm:
        raise ValueError(
            "by_sample: expected row i of an output to come from sample i alone, but gradients taken sample by sample "
            f"differ from those of a whole pass by {100 * float(error / norm):.0f} %; samples mix (a batch norm?), or "
            "stand in another order inside; leave by_sample out"
        )


def _input(node: Node) -> Tensor | None:
    """Returns a linear layer's input [tokens, in] (None: frozen weight), or a LayerNorm's normalised [..., d]."""
    if node.name() == "AddmmBackward0":
        return None if _saved(node, "mat1") is None else _saved_tensor(node, "mat1")
    mean, rstd = _saved_tensor(node, "result1"), _saved_tensor(node, "result2")
    return (_saved_tensor(node, "input") - mean) * rstd


def _combined(node: Node, x: Tensor | None, gradient: Tensor, coefficients: Tensor) -> tuple[Tensor | None, Tensor]:
    """Returns the K gradients of a layer's weight and of its bias, [K, *weight] and [K, *bias].

    x: the layer's input, see `_input`; gradient: at its output. Token t belongs to sample t * n / tokens.
    """
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
