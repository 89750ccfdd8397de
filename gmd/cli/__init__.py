"""The command `gmd`: make data, train, evaluate, predict, compare, report, and look at the installation."""

import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from gmd import threads
from gmd.cli import extras, overview
from gmd.cli.terminal import on_any_terminal
from gmd.errors import UserError
from gmd.printing import say, tell
from gmd.torchrun import started

PACKAGE = str(Path(__file__).parents[1]) + os.sep
# what a disk, a network behind it or a limit of the system says while a file is written or read, without its name
DISK_TROUBLE = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE),
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.ETIMEDOUT),
    *(errno.EHOSTDOWN, errno.EREMOTEIO),
)

NO_COMMAND = 2  # the exit status of `gmd` alone
FAILED = 2  # that of a command that ends with an error


@on_any_terminal
def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command, and returns its exit status. An error that the user can mend is a line on stderr and status 2.

    arguments: the words behind `gmd`; by default those of this process
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if (lines := overview.answer(arguments)) is not None:  # without torch: it comes at once
        say(*lines)
        return _leave() if arguments else NO_COMMAND
    threads.choose()  # first: the imports below load torch
    os.environ["MPLBACKEND"] = "agg"  # pictures go to files; another one, or one that is none, would stop its import
    extras.quiet_without_numpy()
    try:
        _among_several()
        if arguments == ["doctor"]:  # works on an installation that lacks everything but torch
            from gmd.cli import doctor

            return doctor.main()
        from gmd.cli.parse import run

        return run(arguments) or 0
    except UserError as error:
        return FAILED if error.told_elsewhere else fail(str(error))
    except ImportError as error:
        return _without_a_package(error, arguments)
    except OSError as error:
        if not _is_the_users(error):
            raise
        return fail(f"{error}; what was written before is intact")


def _without_a_package(error: ImportError, arguments: Sequence[str]) -> int:
    """Says which package is missing, or too old, and what to do; raises the error again if it is of something else."""
    if not isinstance(error, ModuleNotFoundError):
        if error.name != "torch":  # which gmd_kernels/supported_torch.py refuses
            raise error
        return fail(str(error))
    absent = extras.missing("train")
    if extras.EXTRAS["train"].get(str(error.name)) not in absent:
        raise error
    if overview.HELP & set(arguments):
        say(*overview.commands())
        return _leave()
    return fail(f"{error.name} is not installed; what is missing comes by: {extras.advice(absent)}")


def _among_several() -> None:
    """Makes one of several processes that torchrun has started as quiet as it has to be, before it loads torch.

    Until they know of each other, the first one of a machine says what all of them find.
    """
    here = started()
    if here.processes > 1:  # DistributedDataParallel would warn of what is as it has to be
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    if here.local_rank:
        os.environ.setdefault("TQDM_DISABLE", "1")
        tell(text=False, errors=False)


def _leave() -> NoReturn:
    """Ends as --help does where it is answered by tyro."""
    raise SystemExit(0)


def fail(message: str) -> int:
    """Prints an error on stderr, its first line and those below it, and returns the exit status for it."""
    first, *more = message.split("\n")
    say(f"gmd: error: {first}", *more, error=True)
    return FAILED


def _is_the_users(error: OSError) -> bool:
    """Returns whether the user can mend an error of the system; others are bugs and keep their traceback.

    Any file may be in the way, too long a name, or gone while it is used, but for those that gmd is made of.
    """
    name = error.filename
    if error.errno is None or not isinstance(name, str | bytes):
        return error.errno in DISK_TROUBLE
    return not os.path.abspath(os.fsdecode(name)).startswith(PACKAGE)
