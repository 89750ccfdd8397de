"""What autograd's graph says of a step whose objectives meet the network at the modalities' outputs."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from torch import Tensor
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge

REENTRANT = (
    "losses: a part of the network is checkpointed with use_reentrant=True, which hides its parameters from "
    "torch.autograd.grad: they would be left without a gradient. Call torch.utils.checkpoint.checkpoint with "
    "use_reentrant=False"
)

STATIC = (
    "losses: the network is in a DistributedDataParallel with static_graph=True, which would not average gradients; "
    "use find_unused_parameters=True"
)


class Paths(NamedTuple):
    """The graph before the outputs, output by output, and what lies behind them.

    Attributes:
        head: parameters that objectives reach otherwise than through an output: those behind the outputs, and any that
            a loss uses directly.
        kept: [M], whether a later output's path runs through parts of this one's, whose buffers must outlive it.
        compiled: [M], whether torch.compile made parts of the path.
        nodes: [M], the path.
    """

    head: list[Tensor]
    kept: list[bool]
    compiled: list[bool]
    nodes: list[set[Node]]


def find_paths(losses: Sequence[Tensor], outputs: Sequence[Tensor]) -> Paths:
    """Raises ValueError where the outputs do not part the graph, as the passes through them would count twice then."""
    edges = [get_gradient_edge(output) for output in outputs]
    where = {(edge.node, edge.output_nr): m for m, edge in enumerate(edges)}
    if len(where) < len(edges):
        raise ValueError("outputs: expected a tensor for each modality, got one of them twice")
    behind, met = _walk([get_gradient_edge(loss) for loss in losses], where)
    for m in range(len(outputs)):
        if m not in met:
            raise ValueError(f"outputs[{m}]: no loss was computed from it")
    paths = []
    for m, edge in enumerate(edges):
        others = {place: number for place, number in where.items() if number != m}
        path, met = _walk([edge], others)
        if met:
            raise ValueError(
                f"outputs[{m}]: it was computed from outputs[{min(met)}], expected outputs beside each other"
            )
        paths.append(path)
    head = _leaves(behind)
    before = {id(leaf) for path in paths for leaf in _leaves(path)}
    if twice := [leaf for leaf in head if id(leaf) in before]:
        raise ValueError(
            f"outputs: a parameter {list(twice[0].shape)} is used both before the outputs and by a loss otherwise than "
            "through them; leave outputs out, for a backward pass of each loss"
        )
    kept = [any(_is_freed(node) for later in paths[m + 1 :] for node in path & later) for m, path in enumerate(paths)]
    compiled = [any(node.name() == "CompiledFunctionBackward" for node in path) for path in paths]
    return Paths(head, kept, compiled, paths)


def leaves_of(tensors: Iterable[Tensor], stops: Iterable[Tensor] = ()) -> list[Tensor]:
    """The parameters that a backward pass from `tensors` reaches otherwise than through `stops`; in any order."""
    edges = [get_gradient_edge(stop) for stop in stops]
    where = {(edge.node, edge.output_nr): s for s, edge in enumerate(edges)}
    nodes, _ = _walk([get_gradient_edge(tensor) for tensor in tensors], where)
    return _leaves(nodes)


def check_graph(losses: Iterable[Tensor]) -> None:
    """Raises ValueError if a pass by torch.autograd.grad from the losses would get gradients wrong without a word."""
    _walk([get_gradient_edge(loss) for loss in losses], {})


def _walk(edges: Iterable[GradientEdge], stops: dict[tuple[Node, int], int]) -> tuple[set[Node], set[int]]:
    """The nodes that a backward pass from `edges` visits up to `stops`, and the numbers of the stops it meets.

    Raises ValueError at what a pass by torch.autograd.grad would get wrong without a word.
    """
    nodes, met = set(), set()
    waiting = [(edge.node, edge.output_nr) for edge in edges]
    while waiting:
        node, output = waiting.pop()
        if (node, output) in stops:
            met.add(stops[node, output])
        elif node is not None and node not in nodes:
            _check_node(node)
            nodes.add(node)
            waiting.extend(node.next_functions)
    return nodes, met


def _check_node(node: Node) -> None:
    name = node.name()
    if name == "CheckpointFunctionBackward":
        raise ValueError(REENTRANT)
    if name == "_DDPSinkBackward" and node.ddp_weakref().static_graph:
        raise ValueError(STATIC)


def _is_freed(node: Node) -> bool:
    """Whether a backward pass that retains nothing leaves the node useless: it holds what the forward pass saved.

    Not so leaves, and the casts of parameters that autocast makes once for all modalities.
    """
    return hasattr(node, "saved_tensors") or any(name.startswith("_raw_saved_") for name in dir(node))


def _is_leaf(node: Node) -> bool:
    return hasattr(node, "variable")


def _leaves(nodes: Iterable[Node]) -> list[Tensor]:
    return [node.variable for node in nodes if _is_leaf(node)]
