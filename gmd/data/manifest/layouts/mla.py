"""Lists of MLA (Zhang et al., CVPR 2024): `my_train_NAME.txt`, lines `FILE LABEL`, and where its files lie."""

from collections.abc import Callable, Iterator
from pathlib import Path

from gmd.data.manifest.layouts.layout import Lists
from gmd.data.manifest.layouts.listed import Groups, Listed, Part, checked_name, lines_of
from gmd.data.text_files import brief
from gmd.errors import UserError

TOKENS = ("text_token/{part}_token/{name}_token.npy",)
PICTURES = ("visual/{part}_imgs/{name}.jpg",)
FBANKS = ("audio/{part}_fbank/{name}.npy",)  # kaldi's mel filter banks, float [1024, 128]


def lists(
    name: str, suffix: str, label_of: Callable[[str, str], str], groups_of: Callable[[str, str], Groups]
) -> Lists:
    """Returns the lists of a data set.

    name: its short name in those of the files, such as "cre"
    suffix: of the files in the lists, such as ".flv"
    label_of: checks a label, from where it stands and the label; groups_of: the same of a name
    """

    def read(path: Path, part: Part) -> Iterator[Listed]:
        for where, line in lines_of(path):
            file, found, label = line.rpartition(f"{suffix} ")
            if not found:
                raise UserError(f"{where}: got {brief(line)}, expected NAME{suffix} LABEL")
            file = checked_name(where, file)
            yield Listed(file, label_of(where, label.strip()), part, where, groups_of(where, file))

    return Lists("mla", files_of(name), read, ("", "data"))


def files_of(name: str) -> dict[Part, str]:
    """Returns the names of the lists; that of dev is written by MLA's scripts, and not among the published ones."""
    return {"train": f"my_train_{name}.txt", "dev": f"my_dev_{name}.txt", "test": f"my_test_{name}.txt"}
