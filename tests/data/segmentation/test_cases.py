"""Which files make a case, and what each error says."""

import pytest

from gmd.data.segmentation.cases import find_cases
from gmd.data.segmentation.names import BRATS_MODALITIES, parse_patterns
from gmd.data.segmentation.volumes import load_case
from helpers.nifti_cases import OPEN_MS, SUFFIXES, empty_case, error_of, make_case


@pytest.mark.parametrize("naming", ["brats2018", "brats2023"])
@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
def test_both_namings(tmp_path, naming, ending):
    a, b, c = (f"BraTS-GLI-{number:05d}-000" if naming == "brats2023" else f"case{number}" for number in range(3))
    for name in (b, a, f"deep/er/{c}"):
        make_case(tmp_path / name, naming, ending=ending)
    cases = find_cases(tmp_path)
    assert {case.scheme.name for case in cases} == {naming}
    assert [case.name for case in cases] == [a, b, c]
    assert tuple(cases[0].images) == BRATS_MODALITIES
    for key, path in (*cases[0].images.items(), ("seg", cases[0].label)):
        assert path == tmp_path / a / f"{a}{SUFFIXES[naming][key]}{ending}"


def test_a_case_folder_itself_can_be_the_root(tmp_path):
    make_case(tmp_path / "only")
    assert [case.name for case in find_cases(tmp_path / "only")] == ["only"]


def test_missing_modalities_are_ordinary(tmp_path):
    make_case(tmp_path / "a", keys=("t2", "flair", "seg"))
    make_case(tmp_path / "b", keys=("t1ce", "seg"))
    make_case(tmp_path / "no_images", keys=("seg",))
    with pytest.warns(UserWarning, match=f"part of no case, and not used: {tmp_path}/no_images/no_images_seg"):
        cases = find_cases(tmp_path)
    assert [tuple(case.images) for case in cases] == [("flair", "t2"), ("t1ce",)]


def test_a_choice_of_modalities(tmp_path):
    make_case(tmp_path / "a")
    assert tuple(find_cases(tmp_path, ("t2", "flair"))[0].images) == ("t2", "flair")
    assert "'ct'" in error_of(find_cases, tmp_path, ("ct",))


def test_labels_can_be_optional(tmp_path):
    make_case(tmp_path / "a", keys=("flair", "t1"))
    [case] = find_cases(tmp_path, require_label=False)
    assert case.label is None


def test_trap_unlabelled_data_is_refused_before_training_starts(tmp_path):
    """Published: the training command reads an unlabelled data set and dies on the way."""
    make_case(tmp_path / "a", keys=("flair", "t1"))
    make_case(tmp_path / "b", keys=("flair",))
    message = error_of(find_cases, tmp_path)
    assert str(tmp_path / "a") in message
    assert "*_seg.nii.gz" in message
    assert "only a_flair.nii.gz, a_t1.nii.gz" in message
    assert "(and so 1 more)" in message


def test_hidden_files_are_not_seen(tmp_path):
    empty_case(tmp_path / "a", "a_flair.nii.gz", "a_seg.nii.gz", "._a_flair.nii.gz")
    empty_case(tmp_path / ".trash" / "b")
    assert [case.name for case in find_cases(tmp_path)] == ["a"]


def test_linked_folders_are_followed_but_not_in_circles(tmp_path):
    empty_case(tmp_path / "store" / "a")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a").symlink_to(tmp_path / "store" / "a")
    (tmp_path / "set" / "up").symlink_to(tmp_path / "set")
    assert [case.name for case in find_cases(tmp_path / "set")] == ["a"]


def test_equal_folder_names_get_unique_case_names(tmp_path):
    for folder in ("p1/ses1", "p2/ses1", "p2/ses2"):
        empty_case(tmp_path / folder)
    assert [case.name for case in find_cases(tmp_path)] == ["p1__ses1", "p2__ses1", "ses2"]
    empty_case(tmp_path / "p2__ses1")
    assert "would both be called p2__ses1" in error_of(find_cases, tmp_path)


@pytest.mark.parametrize("name", ["CASE_T1CE.NII.GZ", "case_T1ce.nii", "Brats-Ssa-00001-000-T1C.Nii.gz"])
def test_capitals_make_no_difference(tmp_path, name):
    label = "BRATS-SSA-00001-000-SEG.nii.gz" if "-" in name else "CASE_SEG.nii.gz"
    empty_case(tmp_path / "p", name, label)
    [case] = find_cases(tmp_path)
    assert {key: path.name for key, path in case.images.items()} == {"t1ce": name}
    assert case.label.name == label
    assert case.scheme.name == ("brats2023" if "-" in name else "brats2018")


def test_trap_capitals_do_not_make_a_modality_missing(tmp_path):
    """A file that one of a hundred cases spells otherwise would be left out without a word."""
    empty_case(tmp_path / "p", "x_FLAIR.nii.gz", "x_seg.nii.gz")
    empty_case(tmp_path / "q", "x_Flair.nii.gz", "x_Seg.nii.gz")
    cases = find_cases(tmp_path, patterns={"flair": "*_FLAIR*", "seg": "*_seg*"})
    assert [path.name for case in cases for path in case.images.values()] == ["x_FLAIR.nii.gz", "x_Flair.nii.gz"]
    empty_case(tmp_path / "p", "x_flair.nii.gz")
    assert "x_FLAIR.nii.gz and x_flair.nii.gz both match 'flair'" in error_of(find_cases, tmp_path)


def test_spaces_in_paths(tmp_path):
    make_case(tmp_path / "my data" / "case 1")
    [case] = find_cases(tmp_path / "my data")
    assert case.images["flair"] == tmp_path / "my data" / "case 1" / "case 1_flair.nii.gz"
    assert load_case(case)["name"] == "case 1"


def test_a_case_in_capitals_is_read(tmp_path):
    make_case(tmp_path / "a", keys=("flair", "seg"))
    for path in list((tmp_path / "a").iterdir()):
        path.rename(path.with_name(path.name.upper()))
    [case] = find_cases(tmp_path)
    assert load_case(case)["target"].any()


def test_patterns(tmp_path):
    empty_case(tmp_path / "p7", "FLAIR_x.nii.gz", "T1_x.nii.gz", "T1POST_x.nii.gz", "GOLD_STANDARD_x.nii.gz")
    [case] = find_cases(tmp_path, patterns=OPEN_MS)
    assert case.scheme is None
    assert case.mask is None
    assert {key: path.name for key, path in case.images.items()} == {
        "flair": "FLAIR_x.nii.gz",
        "t1": "T1_x.nii.gz",
        "t1ce": "T1POST_x.nii.gz",
    }
    assert case.label.name == "GOLD_STANDARD_x.nii.gz"


def test_patterns_for_modalities_of_ones_own(tmp_path):
    empty_case(tmp_path / "p", "p_pet.nii", "p_ct.nii")
    patterns = {"pet": "*_pet.nii", "ct": "*_ct.nii"}
    [case] = find_cases(tmp_path, ("ct", "pet"), patterns, require_label=False)
    assert list(case.images) == ["ct", "pet"]


def test_ambiguous_patterns_are_refused(tmp_path):
    empty_case(tmp_path / "p", "T1_x.nii.gz", "T1POST_x.nii.gz")
    message = error_of(find_cases, tmp_path, patterns={"t1": "T1*"}, require_label=False)
    assert "T1POST_x.nii.gz and T1_x.nii.gz both match 't1' (T1*)" in message
    # with T1 itself missing, the same pattern would make T1POST two modalities
    (tmp_path / "p" / "T1_x.nii.gz").unlink()
    message = error_of(find_cases, tmp_path, patterns={"t1": "T1*", "t1ce": "T1POST*"}, require_label=False)
    assert "T1POST_x.nii.gz: matches the patterns of 't1' and 't1ce'" in message


def test_pattern_errors(tmp_path):
    empty_case(tmp_path / "p", "Flair.nii.gz")
    message = error_of(find_cases, tmp_path, patterns={"T1": "T1*"})
    assert "'T1' is not known; the keys are flair, t1, t1ce, t2, seg, mask" in message
    assert "name no modality" in error_of(find_cases, tmp_path, patterns={"seg": "x"})
    assert "add seg=GLOB" in error_of(find_cases, tmp_path, patterns={"flair": "Flair*"})
    patterns = {"flair": "Flair*", "mask": "mask*"}
    message = error_of(find_cases, tmp_path, patterns=patterns, require_label=False)
    assert "no brain mask (mask*) of case p, only Flair.nii.gz" in message


def test_parse_patterns():
    assert parse_patterns(["flair=F_*.nii", "seg=a=b*"]) == {"flair": "F_*.nii", "seg": "a=b*"}
    for wrong in ("flair", "=x", "flair="):
        assert f"{wrong!r} is not of the form KEY=GLOB" in error_of(parse_patterns, [wrong])
    assert "two patterns for 't1': 'a' and 'b'" in error_of(parse_patterns, ["t1=a", "t1=b"])


def test_no_such_folder(tmp_path):
    assert f"{tmp_path / 'x'}: there is no such folder" in error_of(find_cases, tmp_path / "x")


def test_no_cases(tmp_path):
    assert "1 folder(s)" in error_of(find_cases, tmp_path)
    assert "no files" in error_of(find_cases, tmp_path)
    empty_case(tmp_path / "p", "License.txt", "Scan_1.nii.gz")
    message = error_of(find_cases, tmp_path)
    for part in (str(tmp_path), "2 folder(s)", "flair=*_flair.nii.gz", "flair=*-t2f.nii.gz", "Scan_1.nii.gz"):
        assert part in message
    assert "Looked for flair=F*;" in error_of(find_cases, tmp_path, patterns={"flair": "F*"})


def test_mixed_namings(tmp_path):
    make_case(tmp_path / "a", "brats2018")
    make_case(tmp_path / "b", "brats2023")
    message = error_of(find_cases, tmp_path)
    a, b = tmp_path / "a/a_seg.nii.gz", tmp_path / "b/b-seg.nii.gz"
    assert (
        f"two namings are mixed, with other label values or meanings: {a} (brats2018) and {b} (brats2023 or" in message
    )
