"""`gmd compare`: compares runs with the first of them, on the cases that all have scored, and writes the result."""

import os
from collections.abc import Sequence
from pathlib import Path

from gmd.errors import UserError
from gmd.evaluation.compare.comparison import compare_scores
from gmd.evaluation.compare.forest_plot import draw_comparison
from gmd.evaluation.compare.missing_curves import draw_runs
from gmd.evaluation.compare.run_scores import read_run_scores
from gmd.evaluation.compare.text import SIGN_OF_ADDED, comparison_csv, comparison_markdown, contributions_csv
from gmd.evaluation.results_folder import write_texts
from gmd.files import open_regular, real_path
from gmd.output_paths import check_file, check_folder
from gmd.printing import say
from gmd.training.run_files import COMPARISON, EVALUATION, OF_A_COMPARISON

# what the files of a comparison hold and nobody else's: by that they are known as such before they are replaced
TABLE, NUMBERS, ADDED, *PICTURES = OF_A_COMPARISON
PICTURE, MISSING_RATES = PICTURES
SIGNS = {
    TABLE: b"bootstrap interval of the paired difference (",
    NUMBERS: b"baseline,run,metric,region,subset,",
    ADDED: ",".join(SIGN_OF_ADDED).encode(),
}
MOST = 2**26  # bytes


def compare(runs: Sequence[Path], out: Path | None = None, seed: int = 0) -> None:
    """Prints how much each run differs from the first; writes `compare.md`, `compare.csv`, `compare.png` and more.

    Paired over cases: for every subset and region, and for the mean over the subsets, which is taken within a case
    first. See `paired_difference` for the intervals. `compare_shapley.csv` has what each modality adds, see
    `contribution_rows`; it has no line where no case has all modalities.

    Where all runs have a curve of the same scores over the missing rate, `compare_missing.png` draws these together.

    Args:
        runs: evaluated runs or cross-validations, at least two.
        out: the folder to write to; by default `evaluation/compare_<names of the others>/` of the first.
        seed: of the bootstrap.

    Raises UserError: fewer than two runs, a run twice, one that has not been evaluated, nothing in common, an `out`
        that is a file or in one, or holds files of these names that are none of a comparison.
    """
    if not 0 <= seed < 2**32:
        raise UserError(f"--seed: got {seed}, expected 0 or more, and less than 2^32")
    runs = [Path(run) for run in runs]
    names = distinct_names(runs)
    if out is None:
        out = runs[0] / EVALUATION / f"{COMPARISON}{'_'.join(name.replace('/', '-') for name in names[1:])}"
    out = Path(out)
    _check_outputs(out)  # before the bootstraps, which take a while
    comparison = compare_scores(names, [read_run_scores(run) for run in runs], seed)
    text = comparison_markdown(comparison)
    numbers = {NUMBERS: comparison_csv(comparison), ADDED: contributions_csv(comparison)}
    written = write_texts(out, {TABLE: text} | numbers)
    written.append(draw_comparison(comparison, out / PICTURE))
    written += draw_runs(dict(zip(names, runs, strict=True)), out / MISSING_RATES)
    say(*text.split("\n"), *written)


def _check_outputs(out: Path) -> None:
    """Raises UserError if the comparison cannot be written to `out`, or would be written over somebody else's file."""
    check_folder(out, "--out")
    there = [out / name for name in OF_A_COMPARISON if os.path.lexists(out / name)]
    for path in there:
        check_file(path, "--out")
    ours = [name for name, sign in SIGNS.items() if out / name in there and sign in _beginning(out / name)]
    # pictures have no sign of their own: they are written after these
    ours += PICTURES if {TABLE, NUMBERS} <= set(ours) else []
    if others := [path for path in there if path.name not in ours]:
        raise UserError(f"{others[0]}: is there already, and gmd compare has not written it; give another --out")


def _beginning(path: Path) -> bytes:
    """Returns the beginning of a file, more than any table and its legend take; nothing of a link to nothing."""
    if not path.exists():
        return b""
    with open_regular(path) as file:
        return file.read(MOST)


def distinct_names(runs: Sequence[Path]) -> list[str]:
    """Returns a name for each run: as much of the end of its path as tells it from the others.

    Raises UserError for fewer than two runs, or for a run that is given twice.
    """
    if len(runs) < 2:
        raise UserError(
            f"got {len(runs)} run(s), expected at least two: the first is what the others are compared with"
        )
    paths = [real_path(run) for run in runs]
    if twice := [str(run) for run, path in zip(runs, paths, strict=True) if paths.count(path) > 1]:
        raise UserError(f"{' and '.join(twice)} are one run; give each once")
    names, length = [""] * len(paths), 0
    while len(set(names)) < len(names):
        length += 1
        names = ["/".join(path.parts[-length:]) for path in paths]
    return names
