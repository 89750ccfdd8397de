"""The stub of the compiled part says which functions csrc/bindings.cpp registers: what mypy believes has to be true."""

import ast
import re

from helpers.places import ROOT


def test_the_stub_names_what_the_bindings_register():
    registered = set(re.findall(r'm\.def\(\s*"(\w+)"', (ROOT / "csrc" / "bindings.cpp").read_text()))
    stub = ast.parse((ROOT / "gmd_kernels" / "_C.pyi").read_text())
    named = {node.name for node in stub.body if isinstance(node, ast.FunctionDef)}
    assert registered
    assert named == registered
