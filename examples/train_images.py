"""`python -m examples.train_images`: trains a network on folders of pictures, CIFAR, or pictures that need no files."""

import sys
from collections.abc import Sequence

import tyro

from examples.images.options import Options
from gmd.errors import UserError
from gmd.printing import say


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains, and returns the exit status. What the user can mend is one line on stderr, and status 2.

    arguments: the words behind the name of the program; by default those of this process
    """
    options = tyro.cli(Options, prog="python -m examples.train_images", args=arguments)
    try:
        from examples.images.training import train  # brings torchvision, which may be missing or fit another torch

        train(options)
    except (UserError, OSError) as error:
        say(f"error: {error}", error=True)
        return 2
    except KeyboardInterrupt:
        say(f"interrupted; go on from the last whole epoch with --out {options.out} --resume", error=True)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
