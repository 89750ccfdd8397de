"""Finds a view that uses another modality's private parameters, which a function kept in the network can cause."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves


def parameters_reached(outputs: Any, inputs: Any) -> Iterator[Tensor]:
    """Yields the leaves that the outputs depend on, but for those which they depend on through the inputs alone."""
    seen = {tensor.grad_fn for tensor in tree_leaves(inputs) if isinstance(tensor, Tensor)}
    waiting = [tensor.grad_fn for tensor in tree_leaves(outputs) if isinstance(tensor, Tensor)]
    while waiting:
        node: Any = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            yield node.variable
        waiting += [before for before, _ in node.next_functions]
