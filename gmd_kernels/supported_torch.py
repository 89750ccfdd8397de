"""Which torch this package can be used with: another one is refused where this is imported, which comes first."""

import re

import torch

OLDEST = (2, 8)


def check(version: str) -> None:
    """Raises ImportError, which says what to do, for a torch before 2.8.

    version: `torch.__version__`, "2.13.0+cpu" for instance; one that begins with no number passes
    """
    found = re.match(r"(\d+)\.(\d+)", version)
    if found and tuple(map(int, found.groups())) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise ImportError(
            f"gmd needs torch {oldest} or later, this is torch {version}: pip install 'torch>={oldest}', then install "
            "gmd again, whose kernels are built against it (docs/installation.md)",
            name="torch",
        )


check(torch.__version__)
