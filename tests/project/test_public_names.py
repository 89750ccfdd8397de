"""The public names of `gmd` are there as if they were imported, and torch is loaded with the first that is used."""

import pickle
import pydoc
import subprocess
import sys

import pytest

import gmd
import gmd.sharing
import gmd.surgery


@pytest.mark.parametrize("name", gmd.__all__)
def test_a_public_name_is_that_of_its_folder(name: str):
    found = getattr(gmd, name)
    assert found is getattr(gmd.sharing if name in ("Shared", "share") else gmd.surgery, name)
    assert pickle.loads(pickle.dumps(found)) is found
    assert name in dir(gmd)


def test_import_of_all_names_and_help():
    names: dict = {}
    exec("from gmd import *", names)
    assert set(gmd.__all__) <= names.keys()
    text = pydoc.plain(pydoc.render_doc(gmd))
    assert all(f"class {name}(" in text for name in gmd.__all__ if name != "share")
    assert "share(network" in text


def test_a_name_that_is_not_there_is_an_error_as_of_any_module():
    with pytest.raises(AttributeError, match="module 'gmd' has no attribute 'GDM'"):
        gmd.GDM  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'GDM' from 'gmd'"):
        from gmd import GDM  # noqa: F401
    assert not hasattr(gmd, "__wrapped__")


def test_the_module_of_the_names_is_there_too():
    """As after every import of gmd before torch was loaded late."""
    code = "import gmd; gmd.surgery.GMD; assert gmd.surgery.GMD is gmd.GMD"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("use", ["gmd.GMD", "from gmd import Report", "import gmd.surgery"])
def test_torch_is_loaded_with_the_first_name_and_not_before(use: str):
    unloaded = "import sys, gmd, gmd.cli, gmd.errors; dir(gmd); gmd.__version__; assert 'torch' not in sys.modules"
    code = f"{unloaded}; sys.modules['torch'] = None\ntry: {use}\nexcept ImportError: sys.exit(7)"
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 7
