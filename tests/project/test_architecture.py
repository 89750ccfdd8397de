"""The code keeps to the flow that ARCHITECTURE.md draws."""

import subprocess
import sys
from collections import defaultdict

import pytest

from helpers.architecture import (
    PAGE,
    across_the_kinds,
    against_the_flow,
    flow_of,
    imports_of,
    meeting_places_of,
    place_of,
    sources_of,
)
from helpers.places import ROOT

TEXT = (ROOT / PAGE).read_text(encoding="utf-8")
FLOW, MEETING_PLACES, SOURCES = flow_of(TEXT), meeting_places_of(TEXT), sources_of(ROOT)
GROUND = {
    *("decoration.py", "errors.py", "files.py", "memory_limit.py", "names.py", "output_paths.py", "printing.py"),
    *("processes.py", "subsets.py", "threads.py", "together.py", "torchrun.py"),
}


def test_no_import_goes_against_the_flow():
    against = [line for path, source in SOURCES.items() for line in against_the_flow(FLOW, path, source)]
    assert not against, "\n".join(against)


def test_segmentation_and_sequences_know_nothing_of_each_other():
    across = [line for path, source in SOURCES.items() for line in across_the_kinds(MEETING_PLACES, path, source)]
    assert not across, "\n".join(across)


# The table itself


def test_the_table_is_in_the_order_of_the_flow():
    """So it cannot allow a circle."""
    seen: set[str] = set()
    for place, allowed in FLOW.items():
        assert allowed <= seen, f"{PAGE}: {place} may import {allowed - seen}, which comes later"
        seen.add(place)


def test_the_table_has_every_folder_and_nothing_else():
    homeless = [path for path, source in SOURCES.items() if source.strip() and place_of(path, FLOW) is None]
    homeless = [path for path in homeless if not path.endswith("__init__.py")]
    assert not homeless, f"in no row of {PAGE}"
    missing = [place for place in FLOW if not (ROOT / place).exists()]
    assert not missing, f"{PAGE} names what is not there"


def test_the_table_allows_no_more_than_there_is():
    used = defaultdict(set)
    for path, source in SOURCES.items():
        used[place_of(path, FLOW)] |= {place_of(target, FLOW) for _, target in imports_of(source, path)}
    unused = {place: allowed - used[place] for place, allowed in FLOW.items() if allowed - used[place]}
    assert not unused, f"take these permissions out of {PAGE}: nobody uses them"
    idle = [path for path in MEETING_PLACES if not across_the_kinds(set(), path, SOURCES[path])]
    assert not idle, f"take these files out of {PAGE}: they do not know both kinds"


def test_nothing_lies_beside_the_folders_of_gmd_but_the_ground():
    beside = {path.name for path in (ROOT / "gmd").iterdir() if path.is_file()}
    assert beside == {"__init__.py", "__main__.py", "py.typed", *GROUND}
    ground = {f"gmd/{name}" for name in GROUND}
    assert all(FLOW[place] <= ground for place in ground)


# That the tests above see what they should

SMALL = """
| folder | what it is for | what it may import |
|:--|:--|:--|
| `gmd/errors.py`, `gmd/files.py` | the ground | nothing |
| `gmd/__init__.py` | names | nothing |
| `gmd/data` | data | `gmd/errors.py` |
| `gmd/training` | training | `gmd/errors.py`, `gmd/data` |
"""
AGAINST = {
    "at the top": "import gmd.training.loop",
    "of names": "from gmd.training import loop",
    "of a whole folder": "from gmd import training",
    "of the ground, which is not allowed": "from gmd.files import replacing",
    "of the package itself": "from gmd import __version__",
    "among others": "import os, gmd.training",
    "in a function": "def f():\n    from gmd.training.loop import train",
    "under a condition": "if TYPE_CHECKING:\n    from gmd.training.loop import train",
    "with dots": "from ..training.loop import train",
    "with dots only": "from .. import training",
    "of a folder without a row": "from gmd.cellar import wine",
}
ALONG = {
    "of the ground": "from gmd.errors import UserError",
    "of the same folder": "from gmd.data.pairs import Pairs",
    "of the same folder, with a dot": "from .pairs import Pairs",
    "of libraries": "import os, torch\nfrom gmdx.training import loop",
}


@pytest.mark.parametrize("source", AGAINST.values(), ids=AGAINST)
def test_an_import_against_the_flow_is_found(source):
    [sentence] = against_the_flow(flow_of(SMALL), "gmd/data/made_up.py", source)
    line = 2 if "\n" in source else 1
    assert sentence.startswith(f"gmd/data/made_up.py:{line}: ")
    if "cellar" not in source:
        assert "gmd/data imports gmd/" in sentence
        assert "no more than gmd/errors.py. Move" in sentence


@pytest.mark.parametrize("source", ALONG.values(), ids=ALONG)
def test_an_import_along_the_flow_is_none_of_them(source):
    assert not against_the_flow(flow_of(SMALL), "gmd/data/made_up.py", source)


def test_an_import_made_up_in_a_copy_of_the_code_is_found(tmp_path):
    """From the files to the sentence, on the real table."""
    for path in ("gmd/surgery/gmd.py", "gmd/data/pairs.py"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(SOURCES[path], encoding="utf-8")
    with (tmp_path / "gmd/surgery/gmd.py").open("a", encoding="utf-8") as file:
        file.write("\n\ndef later():\n    from gmd.data import pairs\n")
    [sentence] = [line for path, text in sources_of(tmp_path).items() for line in against_the_flow(FLOW, path, text)]
    assert "gmd/surgery imports gmd/data, and ARCHITECTURE.md lets it import no more than gmd_kernels" in sentence


@pytest.mark.parametrize(
    ("path", "source", "finds"),
    [
        ("gmd/data/sequences/x.py", "from gmd.data.segmentation.cases import Case", "a file of sequences imports one"),
        ("gmd/training/tasks/segmentation.py", "from gmd.models import sequences", "a file of segmentation imports"),
        ("gmd/data/x.py", "from gmd.data import segmentation\nimport gmd.config.sequences", "the rooms of both"),
        ("gmd/data/both.py", "from gmd.data import segmentation\nimport gmd.config.sequences", None),
        ("gmd/data/x.py", "from gmd.data.segmentation.cases import Case", None),
        ("gmd/models/sequences/x.py", "from gmd.data.sequences.batches import Batch", None),
    ],
)
def test_an_import_from_one_kind_of_task_to_the_other_is_found(path, source, finds):
    found = across_the_kinds({"gmd/data/both.py"}, path, source)
    assert len(found) == (finds is not None)
    assert all(finds in sentence for sentence in found)


# torch alone

ALONE = '''
import sys
from importlib import metadata
from packaging.requirements import Requirement

OURS = {"gmd", "gmd_kernels"}


def needed(name, found):
    """A distribution and those that it needs, without extras."""
    if name not in found:
        found.add(name)
        for text in metadata.requires(name) or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                needed(requirement.name, found)
    return found


def plain(name):
    return name.lower().replace("_", "-")


torch_and_its_needs = {plain(name) for name in needed("torch", set())}
refused = {
    module
    for module, names in metadata.packages_distributions().items()
    if not torch_and_its_needs.intersection(map(plain, names))
} - OURS - sys.stdlib_module_names  # an old copy of argparse comes with nnU-Net
assert {"numpy", "monai", "nibabel", "tyro", "yaml", "pytest"} <= refused, "nothing would be refused"
for module in [name for name in sys.modules if name.partition(".")[0] in refused]:
    del sys.modules[module]


class Hides:
    """A finder of modules that does not find the refused ones."""

    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in refused else self.finder.find_spec(name, path, target)


sys.meta_path[:] = map(Hides, sys.meta_path)
import torch
import gmd, gmd_kernels, gmd.decoration, gmd.errors, gmd.files, gmd.memory_limit, gmd.printing, gmd.subsets, gmd.threads

head, encoders = torch.nn.Linear(4, 1), torch.nn.ModuleDict({m: torch.nn.Linear(3, 4) for m in "ab"})
optimizer = torch.optim.SGD([*head.parameters(), *encoders.parameters()], lr=0.1)
x, target = torch.randn(8, 3), torch.randn(8, 1)


def loss(rows):
    return (head(rows) - target).square().mean()


def outputs():
    optimizer.zero_grad()
    return {m: encoder(x) for m, encoder in encoders.items()}


for surgeon in (gmd.GMD(optimizer), gmd.GMD(optimizer, tol=0.1)):
    rows = outputs()
    surgeon.backward([loss(rows["a"]), loss(rows["b"]), loss(rows["a"] + rows["b"])], outputs=rows)
    optimizer.step()
cggm = gmd.CGGM(optimizer, head, torch.nn.functional.mse_loss, lambda p, t: -(p - t).square().mean(), ["a", "b"])
rows = outputs()
cggm.backward([loss(rows["a"] + rows["b"])], outputs=rows, targets=dict.fromkeys("ab", target))
optimizer.step()
mla = gmd.MLA(optimizer, head)
for m in "ab":
    rows = outputs()[m]
    mla.backward([loss(rows)], outputs={m: rows})
    optimizer.step()
grads = [[torch.randn(3)] for _ in range(3)]
gmd_kernels.surgery(grads, gmd_kernels.weightings.upgrad)
gmd_kernels.surgery(grads)
assert not refused.intersection(sys.modules)
'''


def test_the_surgery_works_with_torch_alone():
    """In a process that finds no installed package but torch, what torch needs, and ours."""
    done = subprocess.run([sys.executable, "-c", ALONE], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
