"""`gmd view`: a page of one case of a run."""

from pathlib import Path

from tyro.conf import Positional

from gmd.printing import say


def view(run: Positional[Path], case: Positional[str], out: Path | None = None, network: str | None = None) -> None:
    """Write a page of one case to scroll through: the prediction from every subset of the modalities beside the truth.

    Example: gmd view runs/brats BraTS2021_00001

    Args:
        run: The folder that was --out in training.
        case: The name of a case of the run's data, best one that tests; splits.json in the run has them all.
        out: The page, .html; by default view_CASE.html in the folder of the run. It needs nothing else to be looked at.
        network: The network of the run, if that is one of your own, package.module:function. It is code, which is not
            imported because the run's files name it.
    """
    from gmd.view import view

    say(view(run, case, out, network))
