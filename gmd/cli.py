"""The command `gmd`: make data, train, evaluate, and look at the installation."""

import errno
import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from gmd.errors import UserError

EXTRAS = ("tyro", "monai", "nibabel", "tqdm", "matplotlib", "scipy", "numpy")
DISK_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)

DESCRIPTION = """Gradient surgery for multimodal learning with missing modalities.

From nothing to a table of results:
  gmd phantom data/phantoms --cases 20 --shape 64 64 64
  gmd train brats --data data/phantoms --out runs/first --patch 64 64 64 --epochs 20
  gmd evaluate runs/first"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command, returns the exit status. What the user can mend is a line on stderr and status 2."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        # doctor must work on an installation that lacks everything but torch
        command = doctor if arguments == ["doctor"] else parse(arguments)
        return command() or 0
    except UserError as error:
        return fail(str(error))
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        return fail(f'{error.name} is not installed; pip install "gmd[train]" brings it')
    except OSError as error:
        if error.errno not in DISK_TROUBLE:
            raise
        return fail(f"{error}; what was written before is intact")


def fail(message: str) -> int:
    print(f"gmd: error: {message}", file=sys.stderr)
    return 2


def parse(arguments: Sequence[str]) -> Callable[[], int | None]:
    """What the command line asks for, ready to call. --help and unknown options raise SystemExit."""
    import tyro

    from gmd.config import TrainBrats
    from gmd.precision import Precision

    app, training = tyro.extras.SubcommandApp(), tyro.extras.SubcommandApp()

    @app.command
    def phantom(
        out: tyro.conf.Positional[Path],
        cases: int = 20,
        shape: tuple[int, int, int] = (64, 64, 64),
        seed: int = 0,
        kind: Literal["plain", "hard"] = "plain",
    ):
        """Write a synthetic data set in the layout of BraTS 2021.

        Example: gmd phantom data/phantoms --cases 20 --shape 64 64 64

        Args:
            out: Folder to write the case folders into.
            cases: How many cases.
            shape: Of the volumes, in voxels of 1 mm, each at least 16.
            seed: Another seed, other cases.
            kind: hard: modalities that contradict each other, one that dominates, and more noise.
        """
        return partial(write_phantoms, out, cases, shape, seed, kind)

    app.command(training, name="train", help="Train a network: gmd train brats --data BraTS2021 --out runs/brats")
    training.command(TrainBrats, name="brats")

    @app.command
    def evaluate(run: tyro.conf.Positional[Path], data: Path | None = None, precision: Precision | None = None):
        """Score a trained run with every subset of the modalities: a table, and pictures.

        Example: gmd evaluate runs/brats

        Args:
            run: The folder that was --out in training.
            data: Other labelled cases to score on; by default the run's own test cases.
            precision: fp32, bf16 or fp16; by default that of the training.
        """
        return partial(evaluate_run, run, data, precision)

    @app.command(name="doctor")
    def show_doctor():
        """Say which kernels this installation has, what is missing, and why.

        Example: gmd doctor
        """
        return doctor

    command = app.cli(prog="gmd", description=DESCRIPTION, args=arguments, config=(tyro.conf.FlagCreatePairsOff,))
    return partial(train, command, arguments) if isinstance(command, TrainBrats) else command


def write_phantoms(out: Path, cases: int, shape: tuple[int, int, int], seed: int, kind: str) -> None:
    from gmd.data.phantom import write_phantoms

    write_phantoms(out, cases, shape, seed, kind)
    print(f"{cases} cases in {out}; next: gmd train brats --data {shlex.quote(str(out))}")


def train(config, arguments: Sequence[str]) -> int:
    from gmd.train import train

    try:
        run = train(config)
    except KeyboardInterrupt:
        started = (config.out / "last.pt").exists()
        again = shlex.join(["gmd", *arguments, *(["--resume"] if started and not config.resume else [])])
        print(f"\ngmd: interrupted; finished epochs are saved. Go on with: {again}", file=sys.stderr)
        return 130
    print(f"trained: {run}; next: gmd evaluate {shlex.quote(str(run))}")
    return 0


def evaluate_run(run: Path, data: Path | None, precision: str | None) -> None:
    from gmd.evaluate import evaluate_run

    evaluate_run(run, data, precision=precision)


def doctor() -> int | None:
    from gmd.doctor import main

    return main()
