"""Which modality a file is of, by its name or that of its folder: those of BraTS, and a user's patterns."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from gmd.data.segmentation.image_files import is_image, stem
from gmd.errors import UserError
from gmd.names import check_apart

BRATS_MODALITIES = ("flair", "t1", "t1ce", "t2")

# how a file's name ends, without .nii.gz: BraTS 2018-2021; 2023 on; meningioma before radiotherapy
_SUFFIXES = {
    "_flair": "flair",
    "_t1": "t1",
    "_t1ce": "t1ce",
    "_t2": "t2",
    "_seg": "seg",
    "-t2f": "flair",
    "-t1n": "t1",
    "-t1c": "t1ce",
    "-t2w": "t2",
    "-seg": "seg",
    "_t1c": "t1ce",
    "_gtv": "seg",
}
_FOLDERS = {
    **dict.fromkeys(("flair", "t2f"), "flair"),
    **dict.fromkeys(("t1", "t1n", "t1w"), "t1"),
    **dict.fromkeys(("t1ce", "t1c", "t1gd"), "t1ce"),
    **dict.fromkeys(("t2", "t2w"), "t2"),
    **dict.fromkeys(("seg", "label", "labels"), "seg"),
}


def by_suffix(name: str) -> tuple[str, str] | None:
    """Returns what a name without ending is before its suffix, and the modality or "seg" that the suffix says."""
    for suffix, key in _SUFFIXES.items():
        if name.lower().endswith(suffix):
            return name[: len(name) - len(suffix)], key
    return None


def of_file(name: str) -> tuple[str, str] | None:
    """Returns the same of a file called so; None for one that is no NIfTI image, or has no suffix of BraTS."""
    return by_suffix(stem(name)) if is_image(name) else None


def of_folder(name: str) -> tuple[str, str] | None:
    """Returns the same of a folder that may hold a modality: called like one, `t1`, or with a suffix, `P1_t1`."""
    key = _FOLDERS.get(name.lower())
    return ("", key) if key else by_suffix(stem(name))


def examples(modalities: Sequence[str]) -> str:
    """Returns the names that the files of modalities have in BraTS, of each year, for messages."""
    wanted = [(suffix, key) for suffix, key in _SUFFIXES.items() if key in modalities]
    return ", ".join(f"{key}=*{suffix}.nii.gz" for suffix, key in wanted)


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


def check_keys(modalities: Sequence[str], patterns: dict[str, str] | None, channels: Sequence[str] = ()) -> None:
    """Raises UserError for modalities that nothing names files of, and for patterns of something else."""
    check_apart("--modalities", modalities)
    # of volumes that nobody asks for several may be called alike, as nnU-Net's data sets do
    asked = [channel for channel in channels if channel in modalities or list(channels).count(channel) == 1]
    check_apart("--channels, or dataset.json", asked, ("seg", "mask"))
    if patterns is None:
        known = (*BRATS_MODALITIES, *channels)
        if unknown := [modality for modality in modalities if modality not in known]:
            raise UserError(
                f"modality {unknown[0]!r}: files are known by their names for {', '.join(known)} only; give patterns"
            )
        return
    allowed = (*modalities, "seg", "mask")
    if unknown := [key for key in patterns if key not in allowed]:
        raise UserError(f"pattern key {unknown[0]!r} is not known; the keys are {', '.join(allowed)}")
    if not any(key in modalities for key in patterns):
        raise UserError(f"the patterns name no modality; add at least one of {', '.join(modalities)}")


def matches(name: str, glob: str) -> bool:
    """Returns whether a file's name fits a user's pattern; capitals make no difference."""
    return fnmatchcase(name.lower(), glob.lower())
