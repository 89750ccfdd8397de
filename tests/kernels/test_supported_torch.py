"""A torch that is too old is refused with what to do, by the import and by the command, before anything else fails."""

import subprocess
import sys

import pytest
import torch

from gmd_kernels.supported_torch import check

OLD = """
import sys, torch
torch.__version__ = "2.7.1+cpu"
"""


@pytest.mark.parametrize("version", ["2.8.0", "2.10.0+cu130", "2.15.0a0+git12", "3.0.0", "unknown", torch.__version__])
def test_it_passes(version: str):
    check(version)


@pytest.mark.parametrize("version", ["2.7.1+cpu", "2.0.0", "1.13.1"])
def test_it_is_refused(version: str):
    with pytest.raises(
        ImportError, match=r"needs torch 2\.8 or later, this is torch .*pip install 'torch>=2\.8'"
    ) as found:
        check(version)
    assert found.value.name == "torch"
    assert version in str(found.value)


def test_import_and_command_say_it():
    code = OLD + "try: import gmd_kernels\nexcept ImportError as error: print(error)\n"
    code += "from gmd import cli\nsys.exit(cli.main(['doctor']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "this is torch 2.7.1+cpu" in done.stdout
    assert done.stderr.startswith("gmd: error: gmd needs torch 2.8 or later, this is torch 2.7.1+cpu")
    assert done.returncode == 2
