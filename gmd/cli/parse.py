"""Parses the command line and calls the function that does what it asks for.

The --help of a command is the docstring of its function, or of the class of its options and the text below each; that
of `gmd` itself is in overview.py.
"""

from collections.abc import Sequence

import tyro

from gmd.cli import data, manifest, nnunet, prediction, runs, training, view
from gmd.cli.overview import COMMANDS
from gmd.config import TASKS, TrainConfig
from gmd.errors import UserError, shown
from gmd.torchrun import started

SEVERAL = ("train", "evaluate")  # the commands for which torchrun may start several processes


def run(arguments: Sequence[str]) -> int | None:
    """Parses a command and does it; returns its exit status or None. --help and unknown options raise SystemExit."""
    if list(arguments[:2]) == ["nnunet", "train"]:  # whose words are nnU-Net's
        return nnunet.train(arguments[2:])
    app, tasks, of_nnunet = (tyro.extras.SubcommandApp() for _ in range(3))
    app.command(data.phantom)
    app.command(tasks, name="train", help=COMMANDS["train"])
    for name, options in TASKS.items():
        tasks.command(name=name)(options)
    app.command(runs.evaluate)
    app.command(name="predict")(prediction.Predict)
    app.command(view.view)
    app.command(runs.compare)
    app.command(runs.report)
    app.command(runs.advise)
    app.command(data.convert)
    app.command(manifest.manifest)
    nnunet.add_commands(of_nnunet)
    app.command(of_nnunet, name="nnunet", help=COMMANDS["nnunet"])
    app.command(doctor)
    _check_alone(arguments)
    given = training.with_file(nnunet.DEFAULT if list(arguments) == ["nnunet"] else arguments)
    # what is wrong with a line is wrong in all processes that torchrun has started with it, and told by one
    result = app.cli(prog="gmd", args=given, console_outputs=not started().local_rank)
    if isinstance(result, TrainConfig):
        return training.train(result, given)
    return prediction.predict(result) if isinstance(result, prediction.Predict) else result


def _check_alone(arguments: Sequence[str]) -> None:
    """Raises UserError for a command that torchrun has started several times, and that does not share out its work."""
    here = started()
    if here.processes > 1 and arguments and arguments[0] not in SEVERAL:
        raise UserError(
            f"gmd {shown(arguments[0], 40)}: torchrun has started it in {here.processes} processes, but only "
            f"{' and '.join(SEVERAL)} share out their work; start it once, without torchrun"
        )


def doctor() -> int | None:
    """Say which kernels this installation has, what is missing, and why.

    Example: gmd doctor
    """
    from gmd.cli.doctor import main

    return main()
