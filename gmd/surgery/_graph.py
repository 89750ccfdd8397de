"""Reads from autograd's graph which parameters lie before the modalities' outputs, and which behind them."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol, TypeGuard

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


Places = dict[tuple[Node | None, int], int]  # (node, number of its output) -> what is numbered so


class Leaf(Protocol):
    """The node where a backward pass ends at a parameter."""

    variable: Tensor


def is_leaf(node: object) -> TypeGuard[Leaf]:
    """Returns whether a node is the end of a backward pass, at a parameter."""
    return hasattr(node, "variable")


class Paths(NamedTuple):
    """The graph before the outputs, output by output, and what lies behind them.

    Attributes:
        head: parameters that objectives reach otherwise than through an output: those behind the outputs, and any that
            a loss uses directly.
        kept: [M], whether a later output's path runs through parts of this one's, whose buffers must outlive it; or
            whether all are to be retained.
        compiled: [M], whether torch.compile made parts of the path.
        nodes: [M], the path.
    """

    head: list[Tensor]
    kept: list[bool]
    compiled: list[bool]
    nodes: list[set[Node]]


def find_paths(losses: Sequence[Tensor], outputs: Sequence[Tensor], retain_graph: bool = False) -> Paths:
    """Finds the path of each output, and the parameters behind the outputs.

    Raises:
        ValueError: the outputs do not part the graph; passes through them would then count some gradients twice.
    """
    edges = [get_gradient_edge(output) for output in outputs]
    where = _places(edges)
    if len(where) < len(edges):
        raise ValueError("outputs: expected a tensor for each modality, got one of them twice")
    behind, met = _visited([get_gradient_edge(loss) for loss in losses], where)
    for m in range(len(outputs)):
        if m not in met:
            raise ValueError(f"outputs[{m}]: no loss was computed from it")
    paths = [_path(m, edge, where) for m, edge in enumerate(edges)]
    head = _leaves(behind)
    _check_apart(head, paths)
    kept = [
        retain_graph or any(_is_freed(node) for later in paths[m + 1 :] for node in path & later)
        for m, path in enumerate(paths)
    ]
    compiled = [any(map(_is_compiled, path)) for path in paths]
    return Paths(head, kept, compiled, paths)


def _path(m: int, edge: GradientEdge, where: Places) -> set[Node]:
    """Returns the nodes before output m; a ValueError if another output is among them."""
    path, met = _visited([edge], {place: number for place, number in where.items() if number != m})
    if met:
        raise ValueError(f"outputs[{m}]: it was computed from outputs[{min(met)}], expected outputs beside each other")
    return path


def _check_apart(head: Iterable[Tensor], paths: Iterable[set[Node]]) -> None:
    """Raises a ValueError if a parameter of a path is one of the head's too."""
    before = {id(leaf) for path in paths for leaf in _leaves(path)}
    if twice := [leaf for leaf in head if id(leaf) in before]:
        raise ValueError(
            f"outputs: a parameter {list(twice[0].shape)} is used both before the outputs and by a loss otherwise than "
            "through them; leave outputs out, for a backward pass of each loss"
        )


def leaves_of(tensors: Iterable[Tensor], stops: Iterable[Tensor] = ()) -> list[Tensor]:
    """Returns the parameters that a backward pass from `tensors` reaches without passing `stops`, in any order."""
    where = _places([get_gradient_edge(stop) for stop in stops])
    nodes, _ = _visited([get_gradient_edge(tensor) for tensor in tensors], where)
    return _leaves(nodes)


def met_by(losses: Iterable[Tensor], outputs: Sequence[Tensor]) -> list[int]:
    """Returns which of the outputs the losses were computed from, their numbers in order."""
    where = _places([get_gradient_edge(output) for output in outputs])
    return sorted(_visited([get_gradient_edge(loss) for loss in losses], where)[1])


def check_graph(losses: Iterable[Tensor]) -> None:
    """Raises a ValueError if a pass by torch.autograd.grad from the losses would get gradients wrong without a word."""
    _visited([get_gradient_edge(loss) for loss in losses], {})


def has_compiled_parts(losses: Iterable[Tensor]) -> bool:
    """Returns whether torch.compile made parts of the losses' graph."""
    nodes, _ = _visited([get_gradient_edge(loss) for loss in losses], {})
    return any(map(_is_compiled, nodes))


def _is_compiled(node: Node) -> bool:
    return node.name() == "CompiledFunctionBackward"


def _places(edges: Sequence[GradientEdge]) -> Places:
    return {(edge.node, edge.output_nr): number for number, edge in enumerate(edges)}


def _visited(edges: Iterable[GradientEdge], stops: Places) -> tuple[set[Node], set[int]]:
    """Returns the nodes that a backward pass from `edges` visits up to `stops`, and the numbers of the stops met.

    Raises a ValueError at what a pass by torch.autograd.grad would get wrong without a word.
    """
    nodes: set[Node] = set()
    met: set[int] = set()
    waiting: list[tuple[Node | None, int]] = [(edge.node, edge.output_nr) for edge in edges]
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
    if name == "_DDPSinkBackward" and _is_static(node):
        raise ValueError(STATIC)


def _is_static(sink: Node) -> bool:
    """Returns whether the DistributedDataParallel that made the node, and left a reference there, is static."""
    wrapper = sink.ddp_weakref()  # type: ignore[attr-defined]  # torch's own node; should it be renamed, this must fail
    return wrapper is not None and bool(wrapper.static_graph)


def _is_freed(node: Node) -> bool:
    """Returns whether a backward pass that retains nothing makes the node useless, by freeing what it has saved.

    Leaves have saved nothing, nor have the casts of parameters that autocast makes once for all modalities.
    """
    return hasattr(node, "saved_tensors") or any(name.startswith("_raw_saved_") for name in dir(node))


def _leaves(nodes: Iterable[Node]) -> list[Tensor]:
    return [node.variable for node in nodes if is_leaf(node)]
