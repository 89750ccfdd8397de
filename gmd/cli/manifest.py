"""`gmd manifest`: a csv of pictures, sound and text, made of the field's data sets as they lie on disk."""

import os
import shlex
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from gmd.data.manifest.layouts.build import DataSet, Split
from gmd.printing import say


def manifest(
    data_set: Positional[DataSet],
    folder: Positional[Path],
    out: Annotated[Path, arg(aliases=["-o"])],
    split: Split = "published",
    lists: Annotated[str | None, arg(name="list")] = None,
    seed: int = 0,
) -> None:
    """Make a manifest, a csv with a row a sample, of CREMA-D, Food-101, MVSA, Kinetics-Sounds or IEMOCAP on disk.

    The lists of the publications say which samples there are: train.csv of OGM-GE, train.jsonl of MMBT,
    my_train_cre.txt of MLA, ... Files are looked for in the folders in which these data sets are handed around, such as
    AudioWAV and Image-01-FPS. What is missing is counted and named, and stays empty; a sample without any file is left
    out. It says which split it is and what leaks: in the published splits of CREMA-D and IEMOCAP every speaker of test
    is in training too.

    Example: gmd manifest crema-d CREMA-D -o CREMA-D/manifest.csv

    Example: gmd manifest crema-d CREMA-D -o by_speaker.csv --split speaker

    Example: gmd manifest food101 UPMC-Food101 -o food.csv --list mla

    Args:
        data_set: Which it is.
        folder: The folder that it lies in; paths in the manifest are relative to it, --root of gmd train classify.
        out: The manifest to write, .csv; for gmd train classify --data.
        split: published: as its lists have it. speaker (crema-d, iemocap): no speaker is in two splits; IEMOCAP's by
            session, since the two of a session speak with each other. dialogue (iemocap): no dialogue is in two splits.
        lists: Whose lists to take where there are several: ogm-ge, mla, mmbt, cggm or balancebenchmark.
        seed: Draws who validates where no list says it, and the splits by speaker and dialogue.
    """
    from gmd.data.manifest.layouts.build import write_manifest

    say(*write_manifest(data_set, folder, out, split, lists, seed))
    root = "" if os.path.samefile(out.parent, folder) else f" --root {shlex.quote(str(folder))}"
    say(f"written: {out}; next: gmd train classify --data {shlex.quote(str(out))}{root}")
