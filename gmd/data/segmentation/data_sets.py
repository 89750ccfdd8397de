"""Data sets to learn from: where each lies, what its files are called, what its labels mean; several as one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations
from pathlib import Path
from typing import NamedTuple

from gmd.data import SPLITS
from gmd.data.segmentation.case import SAME_PLACE, Case
from gmd.data.segmentation.cases import Usable, find_cases, usable_cases
from gmd.data.segmentation.label_names import denied_by_names
from gmd.data.segmentation.label_scheme import LabelScheme
from gmd.data.segmentation.labels import SCHEMES, listed
from gmd.data.segmentation.names import BRATS_MODALITIES
from gmd.errors import UserError
from gmd.files import real_path
from gmd.printing import warn

WHOLE = ""  # instead of a split's folder: the data set itself, where it has none


@dataclass(frozen=True)
class DataSet:
    """A folder of cases, and what it takes to read them.

    Attributes:
        root: the folder.
        modalities, patterns, channels, scheme: as in `find_cases`.
        affine_tolerance: mm by which the affines of a case may differ.
    """

    root: Path
    modalities: Sequence[str] = BRATS_MODALITIES
    patterns: dict[str, str] | None = None
    channels: Sequence[str] = ()
    scheme: LabelScheme | None = None
    affine_tolerance: float = SAME_PLACE

    def cases(self, folder: str = "") -> list[Case]:
        """Finds the labelled cases in a folder of the root, or in all of it. Raises UserError as `find_cases`."""
        names = self.modalities, self.patterns
        return self._tolerant(find_cases(self.root / folder, *names, channels=self.channels, scheme=self.scheme))

    def usable(self) -> Usable:
        """Finds the labelled cases past those that cannot be used. Raises UserError as `usable_cases`."""
        names = self.modalities, self.patterns
        found = usable_cases(self.root, *names, channels=self.channels, scheme=self.scheme)
        return found._replace(cases=self._tolerant(found.cases))

    def _tolerant(self, cases: list[Case]) -> list[Case]:
        return [replace(case, affine_tolerance=self.affine_tolerance) for case in cases]


def split_folders(root: str | Path) -> list[str]:
    """Returns the names of those of the folders train, validation and test that are directly below `root`."""
    return [name for name in SPLITS if (Path(root) / name).is_dir()]


class Found(NamedTuple):
    """The labelled cases of one data set.

    Attributes:
        cases: name of a split -> the cases in its folder; WHOLE -> all of them, if it has no folders for splits.
        scheme: what their label values mean.
    """

    cases: dict[str, list[Case]]
    scheme: LabelScheme


def find_all(data_sets: Sequence[DataSet]) -> list[Found]:
    """Finds the labelled cases of each data set, and checks that they can be learnt from together.

    Cases of different data sets that share a name are called by that of their data set too, `A__case1`. Examinations
    with BraTS's names are of one patient wherever they lie, as their numbers are given once.

    Raises UserError: as `find_cases`; a data set that is given twice or lies in another; labels that nothing tells the
        meaning of, or that mean other regions in one data set than in another.
    """
    _check_apart(data_sets)
    found = [_cases_by_split(data_set) for data_set in data_sets]
    _check_same_regions({data_set.root: each.scheme for data_set, each in zip(data_sets, found, strict=True)})
    return _named_apart([real_path(data_set.root) for data_set in data_sets], found)


def _cases_by_split(data_set: DataSet) -> Found:
    """Finds the cases of one data set. Raises UserError for mixed namings, and if nothing says what the labels mean."""
    found = {name: data_set.cases(name) for name in split_folders(data_set.root) or [WHOLE]}
    if data_set.scheme and not data_set.patterns:
        labels = [case.label for case in chain(*found.values()) if case.label]
        if denied := denied_by_names(data_set.root, labels, data_set.scheme):
            warn(denied, stacklevel=2)
    scheme = _widest(data_set.root, {name: cases[0].scheme for name, cases in found.items()})
    return Found({name: [replace(case, scheme=scheme) for case in cases] for name, cases in found.items()}, scheme)


def _widest(root: Path, told: Mapping[str, LabelScheme | None]) -> LabelScheme:
    """Returns the scheme, of those of a data set's folders, that includes the others. Raises UserError without one."""
    schemes = [scheme for scheme in told.values() if scheme]
    if not schemes:
        raise UserError(
            f"{root}: its names do not say what its label values mean. The documentation of the data set "
            "does: give --labels with one of these names, or with a YAML file of your own:",
            listed(SCHEMES.values()),
        )
    widest = next((scheme for scheme in schemes if all(scheme.includes(other) for other in schemes)), None)
    if widest is None or len(schemes) < len(told):
        raise UserError(
            f"{root}: two namings are mixed in {', '.join(told)}; name all files in one way, or give --labels"
        )
    return widest


def _check_apart(data_sets: Sequence[DataSet]) -> None:
    """Raises UserError if a data set is given twice, or lies in another: its cases would count twice."""
    for one, other in combinations([real_path(data_set.root) for data_set in data_sets], 2):
        if one == other:
            raise UserError(f"--data: {one} is given twice; give each data set once")
        if one in other.parents or other in one.parents:
            raise UserError(f"--data: {one} and {other} lie in each other; give the outer one, or folders side by side")


def _check_same_regions(schemes: Mapping[Path, LabelScheme]) -> None:
    """Raises UserError unless the labels of all data sets have the same regions. schemes: of the folders"""
    if len({tuple(scheme.regions) for scheme in schemes.values()}) > 1:
        those = "; ".join(f"{root} {', '.join(s.regions)} ({s.name})" for root, s in schemes.items())
        raise UserError(
            f"--data: one network learns the same regions from every data set, but these have others: {those}. "
            "Train on those that agree, or give --labels, one for each of --data"
        )


def _named_apart(roots: list[Path], found: Sequence[Found]) -> list[Found]:
    """Returns the cases, where those whose name is in several data sets have that of their data set before it.

    Raises UserError if two are still called alike.
    """
    names = [{case.name for case in chain(*each.cases.values())} for each in found]
    shared = {name for one, other in combinations(names, 2) for name in one & other}
    renamed = [
        each._replace(cases={split: _with_prefix(cases, prefix, shared) for split, cases in each.cases.items()})
        for prefix, each in zip(_distinct_names(roots), found, strict=True)
    ]
    for one, other in combinations([{case.name for case in chain(*each.cases.values())} for each in renamed], 2):
        if alike := sorted(one & other):
            raise UserError(f"--data: cases of two data sets would both be called {alike[0]}; rename one's folder")
    return renamed


def _with_prefix(cases: list[Case], prefix: str, shared: set[str]) -> list[Case]:
    """Returns the cases, those with a name that is shared with the prefix before it."""
    return [replace(case, name=f"{prefix}__{case.name}") if case.name in shared else case for case in cases]


def _distinct_names(roots: list[Path]) -> list[str]:
    """Returns the last parts of the paths, as few as tell them apart."""
    parts = 1
    while len({root.parts[-parts:] for root in roots}) < len(roots):
        parts += 1
    return ["__".join(root.parts[-parts:]) for root in roots]
