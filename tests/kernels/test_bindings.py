"""The stub of the compiled part says which functions it has: what mypy believes has to be true."""

import ast

import pytest

from helpers.places import ROOT


def test_the_stub_names_what_was_built():
    compiled = pytest.importorskip("gmd_kernels._C", reason="installed without C++")
    built = {name for name in dir(compiled) if not name.startswith("__") and name != "Gradients"}
    stub = ast.parse((ROOT / "gmd_kernels" / "_C.pyi").read_text())
    named = {node.name for node in stub.body if isinstance(node, ast.FunctionDef)}
    of_cuda = {name for name in named if name.endswith("_cuda") or name == "upload"}
    assert of_cuda
    assert built == (named if built & of_cuda else named - of_cuda)
