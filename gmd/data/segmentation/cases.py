"""Finding cases on disk: which folder is a case, and which file is which modality."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from gmd.data.segmentation.labels import SCHEMES, LabelScheme
from gmd.errors import UserError

BRATS_MODALITIES = ("flair", "t1", "t1ce", "t2")

_BRATS_SUFFIXES = {
    "brats2018": {"flair": "_flair", "t1": "_t1", "t1ce": "_t1ce", "t2": "_t2", "seg": "_seg"},
    "brats2023": {"flair": "-t2f", "t1": "-t1n", "t1ce": "-t1c", "t2": "-t2w", "seg": "-seg"},
}

Globs = dict[str, tuple[str, ...]]  # modality, "seg" or "mask" -> globs, any of which may match
Namings = Mapping[str | None, Globs]  # label scheme that a naming implies, None with patterns -> its globs
Folder = tuple[Path, list[str]]  # a folder and the names of the files in it


@dataclass(frozen=True)
class Case:
    """The files of one examination.

    Attributes:
        name: no other case of the data set is called so.
        images: modality -> its file, for the modalities that exist only, in canonical order; at least one.
        label: the label map, if there is one.
        mask: the brain mask, if there is one.
        scheme: what the values of the label map mean, if that is known.
    """

    name: str
    images: dict[str, Path]
    label: Path | None = None
    mask: Path | None = None
    scheme: LabelScheme | None = None

    @property
    def folder(self) -> Path:
        """Returns the folder that the case's files lie in."""
        return next(iter(self.images.values())).parent


def find_cases(
    root: str | Path,
    modalities: Sequence[str] = BRATS_MODALITIES,
    patterns: dict[str, str] | None = None,
    require_label: bool = True,
    below: bool = True,
    scheme: LabelScheme | None = None,
) -> list[Case]:
    """Finds the cases at or below `root`: each folder that holds the file of at least one modality is one.

    Cases that lack some modalities are ordinary. Without `patterns` the files must be named as in BraTS
    2018-2021 (`<case>_t1ce.nii.gz`) or as in BraTS 2023 and later (`<case>-t1c.nii.gz`); `.nii` will do too.
    Capitals make no difference, here and in patterns: else a case whose FLAIR is called Flair would pass for one
    without it.

    modalities: their names, in the canonical order
    patterns: modality -> glob of the file's name inside the case folder; so too for the keys `seg` (labels)
        and `mask` (brain mask). Where a mask is asked for, every case must have one.
    below: otherwise only `root` itself is looked at
    scheme: what the label values mean; by default what the naming implies, which patterns do not
    returns the cases, sorted by name
    Raises UserError: no such folder, no case, two files for one modality or one file for two, no label map or
        brain mask where it is needed, both BraTS namings mixed, a pattern for something that is no modality.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"{root}: there is no such folder; give the folder that holds the case folders")
    namings: Namings = {None: _pattern_globs(patterns, modalities)} if patterns else _brats_globs(modalities)
    folders = list(walk_folders(root)) if below else [next(walk_folders(root))]
    found = {naming: _cases_named(globs, folders, modalities) for naming, globs in namings.items()}
    found = {naming: cases for naming, cases in found.items() if cases}
    if not found:
        raise UserError(_no_cases(root, namings, folders))
    if len(found) > 1:
        examples = " and ".join(f"{cases[0].folder} ({naming})" for naming, cases in found.items())
        raise UserError(f"{root}: two namings are mixed, {examples}; keep each data set in its own folder")
    [(naming, cases)] = found.items()
    _check_complete(cases, namings[naming], require_label)
    scheme = scheme or (SCHEMES[naming] if naming else None)
    return [replace(case, scheme=scheme) for case in with_unique_names(cases, root)]


def parse_patterns(items: Sequence[str]) -> dict[str, str]:
    """Reads the patterns of a command line, `["flair=Flair_*.nii.gz", ...]`: key -> glob.

    Raises UserError for an item of another form, and for two patterns of one key.
    """
    patterns: dict[str, str] = {}
    for item in items:
        key, _, glob = item.partition("=")
        if not (key and glob):
            raise UserError(f"pattern {item!r} is not of the form KEY=GLOB, e.g. flair=Flair_*.nii.gz")
        if key in patterns:
            raise UserError(f"two patterns for {key!r}: {patterns[key]!r} and {glob!r}; give one")
        patterns[key] = glob
    return patterns


def with_unique_names(cases: list[Case], root: Path) -> list[Case]:
    """Returns the cases, sorted by name, where those of one name are called by their path below `root`, a__b for a/b.

    Raises UserError if two are still called alike.
    """
    times = Counter(case.name for case in cases)
    named: dict[str, Case] = {}
    for case in cases:
        path = str(case.folder.relative_to(root)).replace(os.sep, "__")
        name = case.name if times[case.name] == 1 else path
        if name in named:
            raise UserError(f"{case.folder} and {named[name].folder} would both be called {name}; rename one")
        named[name] = replace(case, name=name)
    return [named[name] for name in sorted(named)]


def walk_folders(root: Path) -> Iterator[Folder]:
    """Yields all folders from `root` down with the names of their files, through links too, without hidden ones.

    Hidden files are left out because macOS keeps a twin called `._name` beside each file.
    """
    seen = set()
    for folder, below, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link, perhaps to a folder above: not in circles
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(name for name in below if not name.startswith("."))
        yield Path(folder), sorted(name for name in files if not name.startswith("."))


def _brats_globs(modalities: Sequence[str]) -> dict[str | None, Globs]:
    """Returns the globs of each BraTS naming. Raises UserError for a modality that BraTS does not have."""
    if unknown := [modality for modality in modalities if modality not in BRATS_MODALITIES]:
        known = ", ".join(BRATS_MODALITIES)
        raise UserError(f"modality {unknown[0]!r}: BraTS names files for {known} only; give patterns")
    return {
        scheme: {key: (f"*{suffix[key]}.nii.gz", f"*{suffix[key]}.nii") for key in (*modalities, "seg")}
        for scheme, suffix in _BRATS_SUFFIXES.items()
    }


def _pattern_globs(patterns: dict[str, str], modalities: Sequence[str]) -> Globs:
    """Returns the user's patterns as globs. Raises UserError for an unknown key, and if no pattern is a modality's."""
    allowed = (*modalities, "seg", "mask")
    if unknown := [key for key in patterns if key not in allowed]:
        raise UserError(f"pattern key {unknown[0]!r} is not known; the keys are {', '.join(allowed)}")
    if not any(key in modalities for key in patterns):
        raise UserError(f"the patterns name no modality; add at least one of {', '.join(modalities)}")
    return {key: (glob,) for key, glob in patterns.items()}


def _cases_named(globs: Globs, folders: list[Folder], modalities: Sequence[str]) -> list[Case]:
    """Returns the folders in which a modality's file matches its globs, as cases."""
    cases = []
    for folder, names in folders:
        files = {key: [name for name in names if _matches(name, globs[key])] for key in globs}
        if any(files.get(modality) for modality in modalities):
            paths = {key: folder / _only(folder, key, globs, files[key]) for key in globs if files[key]}
            _check_used_once(paths)
            images = {modality: paths[modality] for modality in modalities if modality in paths}
            name = os.path.basename(os.path.abspath(folder))
            cases.append(Case(name, images, paths.get("seg"), paths.get("mask")))
    return cases


def _matches(name: str, globs: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name.lower(), glob.lower()) for glob in globs)


def _only(folder: Path, key: str, globs: Globs, names: list[str]) -> str:
    """Returns the name, if it is the only one that matches. Raises UserError if there are several."""
    if len(names) > 1:
        raise UserError(
            f"{folder}: {' and '.join(names[:2])} both match {key!r} ({' or '.join(globs[key])}); "
            "a case is a folder with one file per modality: remove one, or give narrower patterns"
        )
    return names[0]


def _check_used_once(paths: dict[str, Path]) -> None:
    """Raises UserError for a file that the patterns of two keys match."""
    # `T1*` finds T1POST in a case whose T1 is missing: the same image would count as two modalities
    for path, times in Counter(paths.values()).items():
        if times > 1:
            keys = " and ".join(repr(key) for key in paths if paths[key] == path)
            raise UserError(f"{path}: matches the patterns of {keys}; make them narrower")


def _check_complete(cases: list[Case], globs: Globs, require_label: bool) -> None:
    """Raises UserError for a case without a label map or brain mask where every case has to have one."""
    if require_label:
        if "seg" not in globs:
            raise UserError("labels are needed, but there is no pattern for them; add seg=GLOB")
        _check_none_lack([case for case in cases if case.label is None], "label map", globs["seg"])
    if "mask" in globs:  # to take another brain mask in some of the cases would be silent
        _check_none_lack([case for case in cases if case.mask is None], "brain mask", globs["mask"])


def _check_none_lack(lacking: list[Case], what: str, globs: tuple[str, ...]) -> None:
    if lacking:
        names = ", ".join(sorted(os.listdir(lacking[0].folder))[:6])
        others = f" ({len(lacking) - 1} more cases lack it too)" if len(lacking) > 1 else ""
        raise UserError(
            f"{lacking[0].folder}: no {what} ({' or '.join(globs)}), only {names}{others}; "
            "add the file, rename it, or remove the case"
        )


def _no_cases(root: Path, namings: Namings, folders: list[Folder]) -> str:
    """Returns the error message for a folder without cases: what was looked for, and what is there instead."""
    wanted = " or ".join(
        ", ".join(f"{key}={globs[0]}" for key, globs in naming.items() if key not in ("seg", "mask"))
        for naming in namings.values()
    )
    names = [name for _, files in folders for name in files]
    names.sort(key=lambda name: ".nii" not in name)  # stable: images first, their names tell most
    seen = f"files there are, e.g., {', '.join(names[:4])}" if names else "there are no files"
    return (
        f"{root}: no case found in {len(folders)} folder(s). Looked for {wanted}; {seen}. "
        "Give another folder, or patterns for your file names such as flair=*FLAIR*.nii.gz"
    )
