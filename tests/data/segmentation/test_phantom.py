"""The synthetic data set: what it must look like to teach what real data would, and how it is written."""

import gzip
import hashlib

import nibabel
import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion
from scipy.ndimage import label as components
from scipy.stats import mannwhitneyu

from gmd import files
from gmd.cli import main
from gmd.data.segmentation import phantom
from gmd.data.segmentation.cases import find_cases
from gmd.data.segmentation.names import BRATS_MODALITIES
from gmd.data.segmentation.phantom import make_phantom, write_phantoms
from gmd.data.segmentation.phantom_scan import LOOKS
from gmd.data.segmentation.volumes import load_case
from gmd.errors import UserError
from gmd.processes import Process

SHAPE = (48, 48, 48)  # that of the demo


@pytest.fixture(scope="module")
def made():
    return [make_phantom(SHAPE, seed=0, index=index) for index in range(20)]


@pytest.fixture(scope="module")
def hard():
    return [make_phantom(SHAPE, seed=0, index=index, kind="hard") for index in range(10)]


def healthy_median(image, labels):
    return np.median(image[(image > 0) & (labels == 0)])


def contrast(made, modality, label):
    """Over the cases: the label's median over that of the healthy brain."""
    return np.array(
        [
            np.median(images[modality][labels == label]) / healthy_median(images[modality], labels)
            for images, labels in made
            if (labels == label).any()
        ]
    )


def test_arrays_are_like_skull_stripped_scans(made):
    for images, labels in made:
        assert tuple(images) == BRATS_MODALITIES
        brain = images["flair"] > 0
        assert 0.15 < brain.mean() < 0.4
        assert not brain[[0, -1]].any()
        assert not brain[:, :, [0, -1]].any()
        for image in images.values():
            assert image.dtype == np.int16
            assert image.shape == SHAPE
            np.testing.assert_array_equal(image > 0, brain)  # non-zero means brain, in all four alike
            assert image.min() == 0
            assert 700 < np.percentile(image[brain], 99) < 3000
        assert labels.dtype == np.uint8
        assert not labels[~brain].any()


def test_no_voxel_of_the_brain_is_0_however_dark(monkeypatch):
    look = LOOKS["plain"]
    dark = look.intensity | {"flair": (0,) * 9}
    monkeypatch.setitem(LOOKS, "plain", look._replace(intensity=dark, noise=dict.fromkeys(look.noise, 0.01)))
    images, _ = make_phantom((16, 16, 16), seed=0, index=0)
    np.testing.assert_array_equal(images["flair"] > 0, images["t1"] > 0)


def test_tumours_have_the_promised_parts_and_sizes(made):
    enhancing = [bool((labels == 4).any()) for _, labels in made]
    assert 0.6 <= np.mean(enhancing) < 1  # about one in ten does not enhance
    for (images, labels), enhances in zip(made, enhancing, strict=True):
        assert set(np.unique(labels)) == ({0, 1, 2, 4} if enhances else {0, 1, 2})
        assert 0.035 < (labels > 0).sum() / (images["flair"] > 0).sum() < 0.16
        assert all((labels == value).sum() >= 50 for value in set(np.unique(labels)))
        blobs, _ = components(labels > 0)
        assert np.bincount(blobs.ravel())[1:].max() > 0.95 * (labels > 0).sum()  # one tumour


def test_the_rim_lies_around_the_necrosis(made):
    """Necrosis touches enhancing tissue more than it touches oedema, and its inside touches neither."""
    for _, labels in made:
        if (labels == 4).any():
            core = np.isin(labels, (1, 4))
            inner = binary_erosion(core)
            assert (labels[inner] == 1).mean() > (labels[core & ~inner] == 1).mean() + 0.2


def test_flair_and_t2_show_the_whole_tumour_bright(made):
    for modality in ("flair", "t2"):
        for label in (1, 2, 4):
            assert contrast(made, modality, label).min() > 1.2


def test_flair_contrast_to_noise_is_about_four_or_more(made):
    for images, labels in made:
        gain = healthy_median(images["flair"], labels) / 700
        tumour, healthy = np.median(images["flair"][labels > 0]), healthy_median(images["flair"], labels)
        assert (tumour - healthy) / (gain * LOOKS["plain"].noise["flair"]) > 4


def test_t2_shows_fluid_as_bright_as_tumour_and_flair_shows_it_dark(made):
    """Fluid is the darkest healthy part in FLAIR; T2 alone must not do by a threshold."""
    for images, labels in made:
        healthy = (images["flair"] > 0) & (labels == 0)
        fluid = healthy & (images["flair"] < 0.5 * healthy_median(images["flair"], labels))
        assert fluid.sum() > 50
        assert np.median(images["t2"][fluid]) > 0.8 * np.median(images["t2"][labels > 0])


def test_t1ce_shows_the_rim_and_nothing_else_does(made):
    assert contrast(made, "t1ce", 4).min() > 1.5
    assert contrast(made, "t1ce", 1).max() < 1.0
    for modality in ("flair", "t1", "t2"):
        oedema = np.array([np.median(i[modality][m == 2]) for i, m in made if (m == 4).any()])
        rim = np.array([np.median(i[modality][m == 4]) for i, m in made if (m == 4).any()])
        assert np.abs(rim / oedema - 1).mean() < 0.25  # in t1ce the rim is twice the oedema


def test_t1_shows_the_core_faintly(made):
    core, oedema = contrast(made, "t1", 1), contrast(made, "t1", 2)
    assert 0.6 < np.median(core) < 0.9 < np.median(oedema) < 1.1


def test_some_bright_spots_are_no_tumour(made):
    """Bright in FLAIR and T2, far from the tumour, label 0: a threshold is not enough."""
    with_spots = 0
    for images, labels in made:
        elsewhere = (images["flair"] > 0) & ~binary_dilation(labels > 0, iterations=3)
        bright = elsewhere & (images["flair"] > 0.85 * np.median(images["flair"][labels == 2]))
        blobs, _ = components(bright)
        with_spots += np.bincount(blobs.ravel())[1:].max(initial=0) >= 4
    assert with_spots > len(made) / 2


def test_bias_fields_differ_between_modalities(made):
    """The ratio of two modalities in healthy tissue drifts across the brain."""
    images, labels = made[1]
    healthy = (images["t1"] > 0) & (labels == 0)
    thirds = np.array_split(np.arange(SHAPE[1]), 3)
    ratio = images["t1"] / images["t1ce"].clip(1)
    ratios = [np.median(ratio[:, part][healthy[:, part]]) for part in thirds]
    assert max(ratios) / min(ratios) > 1.05


def test_plain_phantoms_are_what_they_were_before_there_were_hard_ones():
    """Bit for bit: the demo's results are those of its phantoms."""
    images, labels = make_phantom((24, 28, 20), seed=3, index=1)
    digest = hashlib.sha256(labels.tobytes() + b"".join(images[key].tobytes() for key in BRATS_MODALITIES))
    assert digest.hexdigest() == "cea89f932b4783fe3f309fe7e447c998ef7d7a066ee9d9f48da1e4c14ca53c2b"


def test_hard_phantoms_have_the_same_parts(hard):
    for images, labels in hard:
        brain = images["flair"] > 0
        assert tuple(images) == BRATS_MODALITIES
        assert set(np.unique(labels)) in ({0, 1, 2}, {0, 1, 2, 4})
        assert not labels[~brain].any()
        assert 0.09 < (labels > 0).sum() / brain.sum() < 0.25
        for image in images.values():
            np.testing.assert_array_equal(image > 0, brain)
    assert not np.array_equal(hard[0][0]["t1"], make_phantom(SHAPE, 0, 0)[0]["t1"])
    again, _ = make_phantom(SHAPE, 0, 0, "hard")
    assert all(np.array_equal(again[key], hard[0][0][key]) for key in again)


def area_under_curve(values, positive):
    """The chance that a voxel of the region is brighter than one of the rest."""
    return mannwhitneyu(values[positive], values[~positive]).statistic / (positive.sum() * (~positive).sum())


def separation(made, modality, labels_of_region):
    """Over the cases: how well the modality's brightness, or darkness, tells the region from the rest of the brain."""
    areas = []
    for images, labels in made:
        brain, region = images["flair"] > 0, np.isin(labels, labels_of_region)
        if region.any():
            areas.append(area_under_curve(images[modality][brain], region[brain]))
    return abs(np.mean(areas) - 0.5)


def test_in_hard_phantoms_flair_dominates(hard):
    for region in ((1, 2, 4), (4,)):
        flair, *others = (separation(hard, modality, region) for modality in BRATS_MODALITIES)
        assert flair > max(others) + 0.01
    others = [separation(hard, modality, (1, 2, 4)) for modality in BRATS_MODALITIES[1:]]
    assert separation(hard, "flair", (1, 2, 4)) > max(others) + 0.1


def test_in_hard_phantoms_contrasts_contradict_each_other(hard, made):
    """Necrosis is darker than the rim in FLAIR and brighter in T2; in plain phantoms it is as bright in both."""
    assert min(contrast(hard, m, 4).min() for m in ("flair", "t1ce")) > 1.3
    assert np.median(contrast(hard, "t2", 4)) < 1
    assert max(ratio_to_rim(hard, m).max() for m in ("flair", "t1ce")) < 0.8
    assert ratio_to_rim(hard, "t2").min() > 1.2
    for modality in ("flair", "t2"):
        assert 0.85 < np.median(ratio_to_rim(made, modality)) < 1.15


def ratio_to_rim(made, modality):
    """Over the cases with a rim: the median of the necrosis over that of the rim."""
    return np.array(
        [
            np.median(images[modality][labels == 1]) / np.median(images[modality][labels == 4])
            for images, labels in made
            if (labels == 4).any()
        ]
    )


def test_in_hard_phantoms_each_modality_has_anatomy_that_looks_like_tumour(hard):
    """As bright as the tumour's median and no tumour: a tenth of its volume at least, where plain ones have spots."""
    for modality, label in (("t1ce", 4), ("t2", 2)):
        shares = []
        for images, labels in hard:
            if (labels == label).any():
                bright = images[modality] >= np.median(images[modality][labels == label])
                shares.append((bright & (labels == 0)).sum() / (labels == label).sum())
        assert np.median(shares) > 0.1


def test_a_case_depends_on_seed_and_index_only():
    images, labels = make_phantom((24, 28, 20), seed=3, index=1)
    again, labels_again = make_phantom((24, 28, 20), seed=3, index=1)
    assert all(np.array_equal(images[key], again[key]) for key in images)
    assert np.array_equal(labels, labels_again)
    for seed, index in ((3, 2), (4, 1)):
        assert not np.array_equal(images["t1"], make_phantom((24, 28, 20), seed, index)[0]["t1"])


@pytest.mark.parametrize("shape", [(16, 16, 16), (16, 40, 20), (37, 18, 29)])
def test_small_and_odd_shapes(shape):
    for index in range(8):
        images, labels = make_phantom(shape, seed=0, index=index)
        assert labels.shape == shape
        assert (labels == 1).any()
        assert (labels == 2).any()
        assert all(np.isfinite(image).all() for image in images.values())


def test_files_have_the_layout_and_geometry_of_brats(tmp_path):
    write_phantoms(tmp_path / "new" / "folder", cases=2, shape=(20, 24, 16), seed=0)
    cases = find_cases(tmp_path / "new" / "folder")
    assert [case.name for case in cases] == ["Phantom_000_00000", "Phantom_000_00001"]
    assert {case.scheme.name for case in cases} == {"brats2018"}
    assert sorted(path.name for path in cases[0].folder.iterdir()) == [
        f"Phantom_000_00000_{key}.nii.gz" for key in ("flair", "seg", "t1", "t1ce", "t2")
    ]
    for path in (*cases[0].images.values(), cases[0].label):
        image = nibabel.load(path)
        expected = np.diag([-1.0, -1.0, 1.0, 1.0])
        expected[1, 3] = 23
        assert image.shape == (20, 24, 16)
        np.testing.assert_allclose(image.affine, expected)
        np.testing.assert_allclose(image.get_qform(), expected, atol=1e-6)
        assert image.header["sform_code"] > 0
        assert image.header["qform_code"] > 0
        assert image.header.get_zooms() == (1, 1, 1)
        assert image.header.get_xyzt_units()[0] == "mm"
        assert image.get_data_dtype() == (np.uint8 if path == cases[0].label else np.int16)
    images, labels = make_phantom((20, 24, 16), seed=0, index=1)
    np.testing.assert_array_equal(nibabel.load(cases[1].images["t1ce"]).dataobj, images["t1ce"])
    np.testing.assert_array_equal(nibabel.load(cases[1].label).dataobj, labels)


def test_the_kind_is_chosen_on_the_command_line(tmp_path):
    for kind in ("plain", "hard"):
        arguments = ["phantom", str(tmp_path / kind), "--cases", "1", "--shape", "16", "16", "16", "--kind", kind]
        assert main(arguments) == 0
        stored = nibabel.load(find_cases(tmp_path / kind)[0].images["t2"]).dataobj
        np.testing.assert_array_equal(stored, make_phantom((16, 16, 16), 0, 0, kind)[0]["t2"])


def test_files_are_the_same_bytes_when_written_again(tmp_path, monkeypatch):
    write_phantoms(tmp_path / "a", cases=1, shape=(16, 16, 16), seed=5)
    monkeypatch.setattr("time.time", lambda: 2e9)  # gzip would put the time into the file
    write_phantoms(tmp_path / "b", cases=2, shape=(16, 16, 16), seed=5)
    for path in (tmp_path / "a").rglob("*.nii.gz"):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


def test_an_interrupted_case_leaves_nothing_behind(tmp_path, monkeypatch):
    calls = iter(range(100))

    def full_disk(content, **_):
        if next(calls) == 7:  # in the second case, after two of its files
            assert [case.name for case in find_cases(tmp_path)] == ["Phantom_000_00000"]
            raise OSError(28, "No space left on device")
        return compress(content, mtime=0)

    compress = gzip.compress
    monkeypatch.setattr(phantom.gzip, "compress", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_phantoms(tmp_path, cases=3, shape=(16, 16, 16), seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["Phantom_000_00000"]
    assert len(list((tmp_path / "Phantom_000_00000").iterdir())) == 5


def test_a_case_that_another_process_has_just_made_is_left_alone(tmp_path, monkeypatch):
    make = phantom.make_phantom

    def make_late(*given):
        (tmp_path / "Phantom_000_00000").mkdir()
        (tmp_path / "Phantom_000_00000" / "seg.nii.gz").touch()
        return make(*given)

    monkeypatch.setattr(phantom, "make_phantom", make_late)
    with pytest.raises(UserError, match="Phantom_000_00000: there already, by another process"):
        write_phantoms(tmp_path, 1, (16, 16, 16), seed=0)
    assert [path.name for path in tmp_path.rglob("*")] == ["Phantom_000_00000", "seg.nii.gz"]


def test_what_a_killed_process_has_left_is_removed(tmp_path):
    us = Process.this()
    left = tmp_path / files._unfinished_name(Process(us.host, us.space, us.pid, us.start + 1), "")
    left.mkdir()
    (left / "Phantom_000_00000_t1.nii.gz").touch()
    write_phantoms(tmp_path, 1, (16, 16, 16), seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["Phantom_000_00000"]


def test_existing_cases_are_not_overwritten(tmp_path):
    write_phantoms(tmp_path, cases=1, shape=(16, 16, 16), seed=0)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.nii.gz")}
    with pytest.raises(UserError, match=r"already holds cases; give another folder, or delete") as error:
        write_phantoms(tmp_path, cases=1, shape=(16, 16, 16), seed=1)
    assert str(tmp_path) in str(error.value)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*.nii.gz")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cases": 0}, "0 cases with seed 0: at least 1 case"),
        ({"seed": -1}, "seed of 0 or more"),
        ({"shape": (48, 15, 48)}, r"shape \(48, 15, 48\): .* at least 16 voxels each"),
        ({"shape": (48, 48)}, r"shape \(48, 48\): .* three axes"),
    ],
)
def test_impossible_requests_are_refused_before_anything_is_written(tmp_path, arguments, message):
    with pytest.raises(UserError, match=message):
        write_phantoms(tmp_path / "out", **{"cases": 1, "shape": (16, 16, 16), "seed": 0, **arguments})
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(UserError, match="is a file; expected a folder"):
        write_phantoms(tmp_path / "out", cases=1, shape=(16, 16, 16), seed=0)


def test_phantoms_are_read_back_as_tensors(phantoms):
    cases = find_cases(phantoms)
    loaded = load_case(cases[0])
    whole, core, enhancing = loaded["target"].bool()
    assert (enhancing & ~core).sum() == 0
    assert (core & ~whole).sum() == 0
    assert core.any()
    assert (whole & ~loaded["brain"][0]).sum() == 0
    assert loaded["flair"][0][whole].mean() > 1
