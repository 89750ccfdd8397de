"""What modalities and regions may be called: their names are keys in files, columns of tables and words of options."""

import unicodedata
from collections.abc import Collection, Sequence

from gmd.errors import UserError, shown

LONGEST = 64  # characters

# what a case that is read holds beside its modalities: a modality of such a name would take its place
KEYS_OF_A_CASE = ("affine", "brain", "centres", "mask", "name", "scheme", "seg", "target")
# what tables and logs have in the places of modalities and regions
COLUMNS_OF_TABLES = ("subset", "cases", "mean")  # beside regions; no run of any version has a region of these names
POST_PROCESSED = "ET_postpro"  # a column of an evaluation, and no region
COLUMNS = (
    *COLUMNS_OF_TABLES,
    POST_PROCESSED.lower(),
    *("case", "dice", "hd95", "present", "region", "sample", "score", "scored", "step"),
)
# the arrays of a file of sequences, and what numpy takes for an option of its own when it writes one
ARRAYS = ("allow_pickle", "classes", "file", "modalities", "notes", "per_step", "split", "target_length", "version")

OF_MODALITIES = (*KEYS_OF_A_CASE, *COLUMNS, *ARRAYS)
OF_REGIONS = COLUMNS


def check_names(where: str, names: Sequence[str], reserved: Collection[str] = OF_MODALITIES) -> None:
    """Checks names that somebody has chosen, before anything is made that has them.

    A name consists of letters and digits of any script, with `_`, `-`, `.` and single spaces between them, and is not
    longer than LONGEST. So it has none of the signs that separate names: + in those of subsets, = in options, / in
    those of logs, commas in tables. Spaces are allowed because the `dataset.json` of some data sets has them.

    where: what gives the names, for the message: an option or a file
    reserved: words that mean something else there; capitals make no difference
    Raises UserError for the first name that cannot be used, and for two that differ in capitals only, which make no
        difference in the names of files.
    """
    check_apart(where, names, ())
    alike: dict[str, str] = {}
    for name in names:
        if reason := _why_no_name(name) or _why_taken(name.casefold(), reserved):
            raise UserError(
                f"{where}: got '{shown(name, LONGEST)}', which {reason}; expected letters and digits, with _ - . or a "
                "space between them, as in t1_post"
            )
        other = alike.setdefault(unicodedata.normalize("NFKC", name).casefold(), name)
        if other != name:
            raise UserError(f"{where}: got '{other}' and '{name}', which differ in capitals at most; rename one")


def check_apart(where: str, names: Sequence[str], keys: Collection[str] = KEYS_OF_A_CASE) -> None:
    """Checks only that no name takes the place of something else: all that is asked of names in runs made before.

    keys: of a dictionary that has the names beside them, say
    Raises UserError for a name that is given twice, or is one of the keys.
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise UserError(f"{where}: got '{shown(name, LONGEST)}' twice; give each name once")
        seen.add(name)
        if reason := _why_taken(name, keys):
            raise UserError(f"{where}: got '{name}', which {reason}; give it another name")


def _why_no_name(name: str) -> str:
    """Returns what is wrong with the letters of a name, or nothing."""
    if not name:
        return "is empty"
    if len(name) > LONGEST:
        return f"has {len(name)} characters, more than {LONGEST}"
    if wrong := next((c for c in name if not (_is_of_a_word(c) or c in "-. ")), ""):
        return f"holds '{shown(wrong)}'"
    if not (_is_of_a_word(name[0]) and _is_of_a_word(name[-1])):
        return "begins or ends with something else than a letter or a digit"
    return "holds several spaces in a row" if "  " in name else ""


def _is_of_a_word(character: str) -> bool:
    """Returns whether a character is a letter with its marks, a digit, or the underscore."""
    return character == "_" or unicodedata.category(character)[0] in "LMN"


def _why_taken(word: str, reserved: Collection[str]) -> str:
    """Returns why a word is nobody's name, or nothing."""
    return "is a word of its own in the files and tables of gmd" if word in reserved else ""
