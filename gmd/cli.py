"""The command `gmd`: make data, train, evaluate, and look at the installation."""

import errno
import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from gmd.errors import UserError

EXTRAS = ("tyro", "monai", "nibabel", "tqdm", "matplotlib", "scipy", "numpy", "sklearn", "torchmetrics", "tensorboard")
DISK_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)

DESCRIPTION = """Gradient surgery for multimodal learning with missing modalities.

From nothing to a table of results:
  gmd phantom data/phantoms --cases 20 --shape 64 64 64
  gmd train brats --data data/phantoms --out runs/first --patch 64 64 64 --epochs 20
  gmd evaluate runs/first

The same for sequences of text, audio and vision:
  gmd phantom data/sentiment.npz --task sentiment
  gmd train sentiment --data data/sentiment.npz --out runs/second
  gmd evaluate runs/second"""


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

    from gmd.config import TASKS, TrainConfig
    from gmd.precision import Precision

    app, training = tyro.extras.SubcommandApp(), tyro.extras.SubcommandApp()

    @app.command
    def phantom(
        out: tyro.conf.Positional[Path],
        task: Literal["brats", "sentiment"] = "brats",
        cases: int | None = None,
        shape: tuple[int, int, int] | None = None,
        seed: int = 0,
        kind: Literal["plain", "hard"] | None = None,
    ):
        """Write a synthetic data set: tumours in the layout of BraTS 2021, or sequences with a sentiment.

        Example: gmd phantom data/phantoms --cases 20 --shape 64 64 64
        Example: gmd phantom data/sentiment.npz --task sentiment

        Args:
            out: Folder to write the case folders into; of sentiment the file, .npz.
            task: What it is to be trained on.
            cases: How many cases, 20 by default; of sentiment 600 samples.
            shape: brats: of the volumes, in voxels of 1 mm, each at least 16; 64 64 64 by default.
            seed: Another seed, other cases.
            kind: brats: hard has modalities that contradict each other, one that dominates, and more noise.
        """
        if task == "sentiment":
            return partial(write_sentiment, out, 600 if cases is None else cases, seed, shape, kind)
        return partial(
            write_phantoms, out, 20 if cases is None else cases, shape or (64, 64, 64), seed, kind or "plain"
        )

    app.command(training, name="train", help="Train a network: gmd train brats --data BraTS2021 --out runs/brats")
    for name, kind in TASKS.items():
        training.command(kind, name=name)

    @app.command
    def evaluate(
        run: tyro.conf.Positional[Path],
        data: Path | None = None,
        precision: Precision | None = None,
        missing: float | None = None,
    ):
        """Score a trained run with every subset of the modalities: a table, and a picture or every prediction.

        Example: gmd evaluate runs/brats

        Args:
            run: The folder that was --out in training.
            data: Other labelled cases to score on, of a file of sequences its test split; by default the run's own.
            precision: fp32, bf16 or fp16; by default that of the training.
            missing: sentiment and digits: a row more, of test samples that lack each modality with this probability.
        """
        return partial(evaluate_run, run, data, precision, missing)

    @app.command
    def convert(source: tyro.conf.Positional[Path], out: tyro.conf.Positional[Path]):
        """Make a pickle of MOSI or MOSEI, which may hold programs, into a file that holds numbers only.

        Nothing in the pickle is executed: what is not an array, a list, a dictionary, a string or a number is refused.

        Example: gmd convert mosi.pkl mosi.npz

        Args:
            source: The pickle, in the layout of MMSA and Self-MM or of MulT and CGGM.
            out: The file to write, .npz; for gmd train sentiment --data.
        """
        return partial(convert_pickle, source, out)

    @app.command(name="doctor")
    def show_doctor():
        """Say which kernels this installation has, what is missing, and why.

        Example: gmd doctor
        """
        return doctor

    command = app.cli(prog="gmd", description=DESCRIPTION, args=arguments, config=(tyro.conf.FlagCreatePairsOff,))
    return partial(train, command, arguments) if isinstance(command, TrainConfig) else command


def write_phantoms(out: Path, cases: int, shape: tuple[int, int, int], seed: int, kind: str) -> None:
    from gmd.data.phantom import write_phantoms

    write_phantoms(out, cases, shape, seed, kind)
    print(f"{cases} cases in {out}; next: gmd train brats --data {shlex.quote(str(out))}")


def write_sentiment(out: Path, samples: int, seed: int, shape: object, kind: object) -> None:
    if shape is not None or kind is not None:
        raise UserError("--shape and --kind belong to brats; sequences have neither, leave them out")
    from gmd.data.sentiment_phantom import write_sentiment_phantom

    write_sentiment_phantom(out, samples, seed)
    print(f"{samples} samples in {out}; next: gmd train sentiment --data {shlex.quote(str(out))}")


def convert_pickle(source: Path, out: Path) -> None:
    from gmd.data.sequences import convert

    print(*convert(source, out), sep="\n")
    print(f"written: {out}; next: gmd train sentiment --data {shlex.quote(str(out))}")


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


def evaluate_run(run: Path, data: Path | None, precision: str | None, missing: float | None) -> None:
    from gmd.checkpoint import read_config
    from gmd.config import TrainSequences

    if isinstance(read_config(run), TrainSequences):
        from gmd.evaluation.sequences import evaluate_run

        evaluate_run(run, data, precision=precision, missing=missing)
        return
    if missing is not None:
        raise UserError(f"--missing: {run} segments; its cases lack what they lack, leave --missing out")
    from gmd.evaluation.brats import evaluate_run

    evaluate_run(run, data, precision=precision)


def doctor() -> int | None:
    from gmd.doctor import main

    return main()
