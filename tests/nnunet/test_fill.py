"""Files of zeros for channels that are absent."""

import json
from pathlib import Path

import pytest

from gmd import cli
from gmd.errors import UserError
from gmd.nnunet.fill import fill
from helpers.nifti_cases import OBLIQUE, random_image, save
from helpers.nnunet_training import dataset_json

AXES = [[-1.0, 0, 0, 9], [0, -1, 0, 7], [0, 0, 2.5, -3], [0, 0, 0, 1]]


def write_raw(root: Path, files: dict[str, object], **changed: object) -> Path:
    """Writes a data set; files: folder/name -> affine."""
    raw = root / "Dataset501_Name"
    for name, affine in files.items():
        save(raw / name, random_image(), affine)
    (raw / "dataset.json").write_text(json.dumps(dataset_json(("a", "b")) | changed), encoding="utf-8")
    return raw


def test_the_grid_is_that_of_the_cases_first_file(tmp_path: Path, capsys: pytest.CaptureFixture):
    itk = pytest.importorskip("SimpleITK", reason="nnU-Net's library for images")
    raw = write_raw(
        tmp_path,
        {
            "imagesTr/x.y_0001.nii.gz": AXES,
            "imagesTr/full_0000.nii.gz": AXES,
            "imagesTr/full_0001.nii.gz": AXES,
            "imagesTs/t_0000.nii.gz": OBLIQUE,
        },
    )
    before = {path: path.read_bytes() for path in raw.rglob("*.nii.gz")}
    assert cli.main(["nnunet", "fill", str(raw)]) == 0
    assert capsys.readouterr().out == "files of zeros written: 1 of a, 1 of b\n"
    for made, like in {"imagesTr/x.y_0000": "imagesTr/x.y_0001", "imagesTs/t_0001": "imagesTs/t_0000"}.items():
        zeros, image = (itk.ReadImage(str(raw / f"{name}.nii.gz")) for name in (made, like))
        assert zeros.GetPixelID() == itk.sitkUInt8
        assert not itk.GetArrayFromImage(zeros).any()
        for ask in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
            assert getattr(zeros, ask)() == pytest.approx(getattr(image, ask)(), abs=1e-6)
    assert all(path.read_bytes() == content for path, content in before.items())
    assert len(list(raw.rglob("*.nii.gz"))) == 6
    assert cli.main(["nnunet", "fill", str(raw)]) == 0
    assert capsys.readouterr().out == "every case has all channels; nothing was written\n"


def test_a_channel_that_is_not_known_stops_all_before_anything_is_written(tmp_path: Path):
    raw = write_raw(tmp_path, {"imagesTr/x_0000.nii.gz": AXES, "imagesTs/y_0002.nii.gz": AXES})
    with pytest.raises(UserError, match=r"y_0002\.nii\.gz: channel 2 is not known; the channels are 0 a, 1 b"):
        fill(raw)
    assert len(list(raw.rglob("*.nii.gz"))) == 2


def test_what_is_no_data_set_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"no images of the kind CASE_0000\.nii\.gz in imagesTr or imagesTs"):
        fill(write_raw(tmp_path, {"images/x_0000.nii.gz": AXES}))
    with pytest.raises(UserError, match=r"file_ending: got \.png, expected one of"):
        fill(write_raw(tmp_path, {}, file_ending=".png"))
    with pytest.raises(UserError, match="there is no such file"):
        fill(tmp_path)
