"""The command `gmd`: make data, train, evaluate, predict, compare, report, and look at the installation."""

import errno
import sys
from collections.abc import Sequence

from gmd import threads
from gmd.cli.terminal import on_any_terminal
from gmd.errors import UserError
from gmd.printing import say

# errors of the disk and of rights, which the user can mend; others are bugs and keep their traceback
DISK_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)


@on_any_terminal
def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command, and returns its exit status. An error that the user can mend is a line on stderr and status 2.

    arguments: the words behind `gmd`; by default those of this process
    """
    threads.choose()  # first: the imports below load torch
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        if arguments == ["doctor"]:  # works on an installation that lacks everything but torch
            from gmd.cli import doctor

            return doctor.main()
        from gmd.cli.parse import run

        return run(arguments) or 0
    except UserError as error:
        return fail(str(error))
    except ModuleNotFoundError as error:
        from gmd.cli import doctor

        if error.name not in doctor.EXTRAS["train"]:
            raise
        return fail(f'{error.name} is not installed; pip install "gmd[train]" brings it')
    except OSError as error:
        if error.errno not in DISK_TROUBLE:
            raise
        return fail(f"{error}; what was written before is intact")


def fail(message: str) -> int:
    """Prints an error on stderr, its first line and those below it, and returns the exit status for it."""
    first, *more = message.split("\n")
    say(f"gmd: error: {first}", *more, error=True)
    return 2
