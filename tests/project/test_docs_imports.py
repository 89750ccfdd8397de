"""Code that a reader copies into a fresh process finds its modules: no earlier block has to have loaded them."""

import json
import re
import subprocess
import sys

import pytest

from gmd.surgery._passes import DONATED
from helpers.doc_blocks import PAGES, README, ROOT, blocks_of, imports_in, names_in

pytestmark = pytest.mark.slow  # processes that load torch, MONAI and Lightning anew

READ = [README, *PAGES]

# what a process finds at each dotted name after nothing but some imports; a fork for each is quicker than a process
CHECK = """
import json, os, sys

def missing(statements, names):
    space = {}
    for statement in statements:
        exec(statement, space)
    for name in names:
        head, *rest = name.split(".")
        value = space[head]
        for part in rest:
            if not hasattr(value, part):
                yield name
                break
            value = getattr(value, part)

for statements, names in json.load(sys.stdin):
    if not os.fork():
        for name in missing(statements, names):
            print(f"{name} after {'; '.join(statements)}", flush=True)
        os._exit(0)
    _, status = os.wait()
    assert status == 0, statements
"""


def needs_of(page):
    """The imports that a block needs for a module that it names, and the dotted names that begin with the module.

    Of an import of an earlier block, a reader takes the first; and the block has its own.
    """
    earlier = {}
    for block in blocks_of(page):
        if block.language != "python":
            continue
        own = imports_in(block.code)
        for name in sorted(set(names_in(block.code))):
            module = name.split(".")[0]
            statements = own.get(module, []) + earlier.get(module, [])[:1]
            if statements:
                yield tuple(dict.fromkeys(statements)), name
        for module, statements in own.items():
            earlier.setdefault(module, []).extend(statements)


def missing(needs):
    """Those of the dotted names that are not there, in a process that has loaded nothing else."""
    together = {}
    for statements, name in needs:
        together.setdefault(statements, set()).add(name)
    tasks = [(statements, sorted(names)) for statements, names in together.items()]
    done = subprocess.run(
        [sys.executable, "-c", CHECK], input=json.dumps(tasks), capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_every_name_of_a_module_is_there_after_the_imports_that_a_reader_sees():
    needs = {need for page in READ for need in needs_of(page)}
    assert len(needs) > 50, "this test would see nothing"
    assert not missing(needs)


def test_a_module_that_only_another_import_loads_is_found_missing():
    needs = [
        (("import torch",), "torch.nn.Linear"),
        (("import torch",), "torch._functorch.config"),
        (("import torch._functorch.config", "import torch"), "torch._functorch.config.donated_buffer"),
    ]
    assert missing(needs) == ["torch._functorch.config after import torch"]


def test_the_advice_on_donated_buffers_works_in_a_fresh_process():
    code = ["import torch", *(part for part in re.findall("`([^`]+)`", DONATED) if "()" not in part)]
    assert "import torch._functorch.config" in code
    subprocess.run([sys.executable, "-c", "\n".join(code)], check=True)
