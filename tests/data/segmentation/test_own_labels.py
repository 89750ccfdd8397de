"""A label scheme of one's own, from a YAML file, and back as one line of a run's configuration."""

from pathlib import Path

import pytest

from gmd.data.segmentation.labels import SCHEMES
from gmd.data.segmentation.own_labels import option_of, read_scheme
from helpers.nifti_cases import error_of

TEXT = """
values:
  0: background
  1: oedema
  2: core
  3: enhancing tumour
  7: vessel
regions:
  WT: [1, 2, 3]
  ET: [3]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "clinic.yaml"
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_a_file_is_read_and_its_content_stands_for_it(file: Path):
    scheme = read_scheme(str(file))
    assert scheme.name == "clinic"
    assert scheme.values == (0, 1, 2, 3, 7)
    assert scheme.meanings[7] == "vessel"
    assert scheme.regions == {"WT": (1, 2, 3), "ET": (3,)}
    option = option_of(scheme)
    assert "\n" not in option
    file.unlink()
    assert read_scheme(option) == scheme


def test_zero_needs_no_mention_and_a_name_may_be_given(file: Path):
    file.write_text("name: mine\nvalues: {255: lésion}\nregions: {lesion: [255]}")
    scheme = read_scheme(str(file))
    assert (scheme.name, scheme.values, scheme.meanings[255]) == ("mine", (0, 255), "lésion")
    assert read_scheme(option_of(scheme)) == scheme


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "content: got [1, 2], expected the keys values and regions"),
        ("values: {1: a", "not YAML"),
        ("values: {1: a}\nregion: {A: [1]}", "key 'region' is not known; the keys are name, values, regions"),
        ("regions: {A: [1]}", "values: got None, expected lines of the form `1: oedema`"),
        ("values: {1: a}", "regions: got None, expected 1 to 6 lines"),
        ("values: {1.5: a}\nregions: {A: [1]}", "values: got 1.5, expected whole numbers from 0 to 255"),
        ("values: {300: a}\nregions: {A: [300]}", "values: got 300, expected whole numbers from 0 to 255"),
        ("values: {1: }\nregions: {A: [1]}", "values: 1: got None, expected what the value means"),
        ("values: {1: a}\nregions: {A: [2]}", "regions: A: got 2, expected one of the values 1"),
        ("values: {1: a}\nregions: {A: [0, 1]}", "regions: A: got 0, expected one of the values 1"),
        ("values: {1: a}\nregions: {A: 1}", "regions: A: got 1, expected a list of label values"),
        (
            "values: {1: a, 2: b}\nregions: {A: [1, 1]}",
            "regions: A: got 1, expected one of the values 1, 2, none of th",
        ),
        ("values: {1: a}\nregions: {A: []}", "regions: A: got [], expected a list of label values"),
        ("values: {1: a}\nregions: {'A, B': [1]}", "regions: got 'A, B', expected names of letters and digits"),
        ("values: {1: a, 2: b}\nregions: {A: [1], B: [1, 2]}", "regions: A lies in B; list the outer one first"),
        (
            "values: {1: a}\nregions: {subset: [1]}",
            "regions: got 'subset', expected names other than subset, cases, mean",
        ),
        (
            "values: {1: a}\nregions: {cases: [1]}",
            "regions: got 'cases', expected names other than subset, cases, mean",
        ),
        (
            "values: {1: a}\nregions: {hd95_A: [1]}",
            "regions: got 'hd95_A', expected names other than subset, cases, mea",
        ),
        ("values: {1: a, 2: b, 2: c}\nregions: {A: [1]}", "not YAML (key '2' is given twice; give it once); mend it"),
        (
            "values: {1: a}\nregions: {A: [1]}\nvalues: {2: b}",
            "not YAML (key 'values' is given twice; give it once); mend it",
        ),
        (
            "values: {1: a, 2: b}\nregions:\n  A: [1, 2]\n  A: [1]",
            "not YAML (key 'A' is given twice; give it once); mend it",
        ),
        ("values: &a {1: a, 2: *a}\nregions: {A: [1]}", "not YAML (an alias (*name) is not read here"),
        ("name: brats2018\nvalues: {1: a}\nregions: {A: [1]}", "name: got 'brats2018', expected a name that no"),
    ],
)
def test_what_cannot_be_is_named_with_its_key(file: Path, text: str, message: str):
    file.write_text(text)
    assert error_of(read_scheme, str(file)).startswith(f"{file}: {message}")


def test_what_is_no_scheme(tmp_path: Path):
    assert "got brats, expected one of brats2015, brats2018" in error_of(read_scheme, "brats")
    assert f"{tmp_path / 'x.yaml'} cannot be read" in error_of(read_scheme, str(tmp_path / "x.yaml"))


def test_known_schemes_are_their_names():
    assert {option_of(scheme) for scheme in SCHEMES.values()} == SCHEMES.keys()
