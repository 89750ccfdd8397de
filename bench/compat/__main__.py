"""`python -m bench.compat`: builds gmd and runs a short suite with each torch, on each Python, with old and new numpy.

Every environment is made anew in build/compat, with builds of torch for the CPU, and taken away again. The rows go into
bench/results/compat.csv, and `python -m bench.tables.readme` puts the table into docs/compatibility.md.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from tqdm import tqdm

from bench.compat.trial import NOT_TRIED, PASSED, trial
from bench.compat.wanted import NEW_NUMPY, PYTHONS, Wanted, spread, torches
from bench.measure.files import RESULTS, write_csv
from bench.measure.host import ROOT, system_columns
from bench.tables.compat import read_compat
from gmd.printing import say

FOLDER = ROOT / "build" / "compat"
RESULT = RESULTS / "compat.csv"


def main() -> int:
    """Returns 0 if all that was tried passed, 1 if something failed, 2 if nothing could be tried."""
    parser = argparse.ArgumentParser(prog="python -m bench.compat", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="PYTHON:TORCH", help="as in 3.11:2.13; else one for each torch")
    parser.add_argument("--any-build", action="store_true", help="without a torch for the CPU, PyPI's of GBs")
    parser.add_argument("--keep", action="store_true", help="leave the environments and their logs in build/compat")
    parser.add_argument("--out", type=Path, default=RESULT, help="the csv (default: bench/results/compat.csv)")
    arguments = parser.parse_args()
    rows = [_named(parser, name) for name in arguments.only] if arguments.only else spread(torches())
    if not rows:
        say("pip's indexes name no torch; is there a network? `--only 3.11:2.13` takes what lies on a disk", error=True)
        return 2
    archive = source_archive(FOLDER)
    table = read_compat(arguments.out).to_dict("records") if arguments.only and arguments.out.exists() else []
    done: list[dict] = []
    for wanted in (progress := tqdm(rows, unit="environment")):
        progress.set_postfix_str(wanted.name)
        folder = FOLDER / f"python{wanted.python}-torch{wanted.torch}"
        row = trial(wanted, archive, folder, arguments.any_build, progress.set_description)
        done.append(row | system_columns())
        write_csv(arguments.out, [*(old for old in table if not _same(old, wanted)), *done], {})
        tqdm.write(f"{wanted.name}: {done[-1]['outcome']} {done[-1].get('why', '')}")
        if not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)
    outcomes = {row["outcome"] for row in done}
    say(f"written: {arguments.out}; `python -m bench.tables.readme` puts it into docs/compatibility.md")
    return 2 if outcomes == {NOT_TRIED} else int(bool(outcomes - {PASSED, NOT_TRIED}))


def _same(row: dict, wanted: Wanted) -> bool:
    """Whether a row of the file is of that Python and that minor version of torch."""
    return row["python"] == wanted.python and f"{row['torch']}.".startswith(f"{wanted.torch}.")


def _named(parser: argparse.ArgumentParser, name: str) -> Wanted:
    """Returns the environment of "3.11:2.13", with the newest numpy that its packages allow."""
    python, _, torch = name.partition(":")
    if python not in PYTHONS or not torch:
        parser.error(f"--only: {name!r} is no PYTHON:TORCH such as 3.11:2.13; Pythons are {', '.join(PYTHONS)}")
    return Wanted(python, torch, NEW_NUMPY)


def source_archive(folder: Path) -> Path:
    """Makes the archive of the sources, as a release has it, and returns its path."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = [sys.executable, "setup.py", "-q", "sdist", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True)
    [archive] = folder.glob("*.tar.gz")
    return archive


if __name__ == "__main__":
    sys.exit(main())
