"""A label scheme as the option --labels has it: the name of a known one, a YAML file, or the text of such a file."""

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

import yaml

from gmd.data.segmentation.label_scheme import LabelScheme
from gmd.data.segmentation.labels import SCHEMES
from gmd.data.text_files import brief, parse_yaml, read_utf8
from gmd.errors import UserError, shown
from gmd.names import COLUMNS_OF_TABLES, POST_PROCESSED

MOST = 2**16  # bytes of a file of label values
MOST_REGIONS = 6  # pictures have colours for so many
_KEYS = ("name", "values", "regions")
_HD95 = "hd95_"  # what the columns of tables begin with that have the HD95 of a region


def read_scheme(option: str) -> LabelScheme:
    """Returns the label scheme that an option stands for.

    option: the name of a known scheme; the path of a YAML file (.yaml, .yml); or the text of one, in braces, as
        `option_of` returns it. The file says `values`, number -> meaning, and `regions`, name -> numbers, outer regions
        before those that lie in them; `name` is that of the file if it does not say.
    Raises UserError, which names the key, for anything else.
    """
    if option in SCHEMES:
        return SCHEMES[option]
    path = Path(option)
    if option.startswith("{"):
        return _scheme_of(option, "--labels", "own")
    if path.suffix.lower() in (".yaml", ".yml"):
        try:
            return _scheme_of(read_utf8(path, MOST), option, path.stem)
        except FileNotFoundError as error:
            raise UserError(f"--labels: {option} cannot be read ({error}); give a YAML file of label values") from error
    raise UserError(f"--labels: got {option}, expected one of {', '.join(SCHEMES)}, or a YAML file of your own")


def option_of(scheme: LabelScheme) -> str:
    """Returns the option that stands for a scheme: its name if it is a known one, else the whole of it in one line."""
    if SCHEMES.get(scheme.name) == scheme:
        return scheme.name
    content = {
        "name": scheme.name,
        "values": scheme.meanings,
        "regions": {region: list(values) for region, values in scheme.regions.items()},
    }
    return yaml.safe_dump(
        content, default_flow_style=True, sort_keys=False, allow_unicode=True, width=float("inf")
    ).strip()


def _scheme_of(text: str, where: str, name: str) -> LabelScheme:
    """Reads the text of a file. where: for messages; name: of the scheme, if the text does not say"""
    try:
        content = parse_yaml(text)
    except ValueError as error:
        raise UserError(f"{where}: not YAML ({shown(error, 300)}); mend it") from error
    _expect(isinstance(content, dict), where, "content", content, "the keys values and regions")
    if unknown := [key for key in content if key not in _KEYS]:
        raise UserError(f"{where}: key {unknown[0]!r} is not known; the keys are {', '.join(_KEYS)}")
    name = content.get("name", name)
    _expect(isinstance(name, str) and name not in SCHEMES, where, "name", name, "a name that no known scheme has")
    meanings = {0: "background"} | _values(content.get("values"), where)
    return LabelScheme(name, meanings, _regions(content.get("regions"), meanings, where))


def _values(values: object, where: str) -> dict[int, str]:
    """Checks the values: numbers that a label map can hold, each with its meaning."""
    good = isinstance(values, dict) and len(values) > 0
    _expect(good, where, "values", values, "lines of the form `1: oedema`, one for each label value")
    assert isinstance(values, dict)
    for value, meaning in values.items():
        number = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255
        _expect(number, where, "values", value, "whole numbers from 0 to 255")
        _expect(isinstance(meaning, str) and bool(meaning), where, f"values: {value}", meaning, "what the value means")
    return values


def _regions(regions: object, meanings: Mapping[int, str], where: str) -> dict[str, tuple[int, ...]]:
    """Checks the regions: of known values without 0; one that lies in another comes after it."""
    good = isinstance(regions, dict) and 0 < len(regions) <= MOST_REGIONS
    _expect(good, where, "regions", regions, f"1 to {MOST_REGIONS} lines of the form `WT: [1, 2, 4]`")
    assert isinstance(regions, dict)
    for region, values in regions.items():
        named = isinstance(region, str) and region.isidentifier()
        _expect(named, where, "regions", region, "names of letters and digits")
        columns = (*COLUMNS_OF_TABLES, POST_PROCESSED)
        free = region not in columns and not region.startswith(_HD95)
        others = f"names other than {', '.join(columns)} and {_HD95}..., which tables use"
        _expect(free, where, "regions", region, others)
        _check_values(values, meanings, where, f"regions: {region}")
    for (outer, ours), (inner, theirs) in combinations(regions.items(), 2):
        if set(ours) < set(theirs):
            raise UserError(f"{where}: regions: {outer} lies in {inner}; list the outer one first, as {inner}, {outer}")
    return {region: tuple(values) for region, values in regions.items()}


def _check_values(values: object, meanings: Mapping[int, str], where: str, key: str) -> None:
    """Checks the values of a region: a list of known ones, without repetition, and without 0, the outside of all."""
    _expect(isinstance(values, list) and len(values) > 0, where, key, values, "a list of label values")
    assert isinstance(values, list)
    expected = f"one of the values {', '.join(str(known) for known in meanings if known)}, none of them twice"
    for value in values:
        good = type(value) is int and value in meanings and value != 0 and values.count(value) == 1
        _expect(good, where, key, value, expected)


def _expect(good: bool, where: str, key: str, got: object, expected: str) -> None:
    """Raises UserError, which names the key, if its value is not good."""
    if not good:
        raise UserError(f"{where}: {key}: got {brief(got)}, expected {expected}")
