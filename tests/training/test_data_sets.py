"""A training on several data sets, and with label values of one's own: what the run's folder says of them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from gmd.config import TrainBrats
from gmd.config.file import CONFIG, as_arguments, read_yaml
from gmd.data.segmentation.volumes import load_case
from gmd.errors import UserError
from gmd.training.loop import train
from gmd.training.saved_run import load_run
from gmd.training.tasks import open_task
from helpers.nifti_cases import SUFFIXES

pytestmark = pytest.mark.usefixtures("one_thread", "no_pictures")

OWN = """
values: {1: core, 2: oedema, 4: enhancing tumour, 9: vessel}
regions: {WT: [2, 1, 4], ET: [4]}
"""


def renamed(phantoms: Path, folder: Path, called: str = "BraTS-GLI-{:05}-000") -> Path:
    """The phantoms with the names of BraTS 2023 and later, and enhancing tumour as 3."""
    for number, case in enumerate(sorted(phantoms.iterdir())):
        name = called.format(number)
        (folder / name).mkdir(parents=True)
        for key, suffix in SUFFIXES["brats2023"].items():
            image = nibabel.load(case / f"{case.name}_{key}.nii.gz")
            data = np.asarray(image.dataobj)
            data = np.where(data == 4, 3, data).astype(np.uint8) if key == "seg" else data
            nibabel.save(nibabel.Nifti1Image(data, image.affine), folder / name / f"{name}{suffix}.nii.gz")
    return folder


def test_two_data_sets_with_other_numbers_for_the_same_regions(config: TrainBrats, phantoms: Path, tmp_path: Path):
    later = renamed(phantoms, tmp_path / "later")
    task = open_task(replace(config, data=(phantoms, later)))
    assert task.config.labels == ("brats2018", "brats2023")
    assert task.config.label_scheme().name == "brats2018"
    cases = [*task.splits.train, *task.splits.validation, *task.splits.test]
    assert len(cases) == 12
    meant = {case.name[:5]: case.scheme.name for case in cases}
    assert meant == {"Phant": "brats2018", "BraTS": "brats2023"}
    targets = [load_case(case)["target"].sum().item() for case in sorted(cases, key=lambda case: case.name)]
    assert targets[:6] == targets[6:], "the same tumours under other numbers"
    # as the run's folder has it, it is the same again
    again = TrainBrats.from_dict(json.loads(json.dumps(task.config.to_dict())), "config.yaml")
    assert again == task.config
    assert open_task(again).config == again
    described = task.described()
    assert {case["labels"] for case in described["train"]} == {"brats2018", "brats2023"}
    assert described["data"] == f"{phantoms}, {later}"


def test_a_cavity_is_no_region_of_the_other_data_set(config: TrainBrats, phantoms: Path, tmp_path: Path):
    after = renamed(phantoms, tmp_path / "after", "BraTS-GLI-{:05}-100")
    assert open_task(replace(config, data=after)).config.labels == ("brats2024-gli",)
    with pytest.raises(UserError) as caught:
        open_task(replace(config, data=(phantoms, after)))
    for part in (f"{phantoms} WT, TC, ET (brats2018)", f"{after} WT, TC, ET, RC (brats2024-gli)", "one for each"):
        assert part in str(caught.value)
    given = replace(config, data=(phantoms, after), labels=("brats2018", "brats2023"))
    with pytest.warns(UserWarning, match="read as brats2023 .* tells brats2024-gli"):
        assert open_task(given).config.labels == ("brats2018", "brats2023")


def test_names_that_leave_two_meanings_stop_before_anything_is_written(
    config: TrainBrats, phantoms: Path, tmp_path: Path
):
    children = renamed(phantoms, tmp_path / "children", "BraTS-PED-{:05}-000")
    with pytest.raises(UserError) as caught:
        train(replace(config, data=children))
    assert not config.out.exists()
    for part in ("brats2023-ped: 1 non-enhancing", "brats2024-ped: 1 enhancing tumour", "--labels"):
        assert part in str(caught.value)
    assert open_task(replace(config, data=children, labels="brats2023-ped")).config.labels == ("brats2023-ped",)


def test_a_run_does_not_need_the_file_of_its_label_scheme(config: TrainBrats, tmp_path: Path):
    file = tmp_path / "ours.yaml"
    file.write_text(OWN)
    run = train(replace(config, labels=str(file), epochs=1, steps_per_epoch=1))
    file.unlink()
    saved, network = load_run(run)
    assert network.regions == ("WT", "ET")
    assert saved.label_scheme().meanings[9] == "vessel"
    assert saved == TrainBrats.from_dict(read_yaml(run / CONFIG), run)
    # and its configuration is accepted back from the command line
    arguments = as_arguments(run / CONFIG, TrainBrats)
    [given] = [arguments[place + 1] for place, word in enumerate(arguments) if word == "--labels"]
    assert replace(config, labels=given).label_scheme() == saved.label_scheme()
    replace(config, labels=given).check()


def test_names_of_folders_are_part_of_what_a_run_is_resumed_on(config: TrainBrats, phantoms: Path, tmp_path: Path):
    """Where data sets share names of cases; the error says which folders' names are meant."""
    for folder in ("A", "B"):
        shutil.copytree(phantoms, tmp_path / folder)
    run = replace(config, data=(tmp_path / "A", tmp_path / "B"), epochs=1, steps_per_epoch=1)
    train(run)
    (tmp_path / "A").rename(tmp_path / "A2")
    with pytest.raises(UserError, match=r"gone: A__.*restore .* the names of its folders \(what stands before __"):
        train(replace(run, data=(tmp_path / "A2", tmp_path / "B"), resume=True))
