"""`gmd view`: checks all that can be checked, predicts the case from every subset, and writes the page."""

import math
from pathlib import Path

from gmd.data.segmentation.case import Case
from gmd.data.segmentation.opened_image import open_image
from gmd.data.segmentation.volumes import load_case, memory_of
from gmd.errors import UserError, shown
from gmd.evaluation.scored_checkpoint import describe_checkpoint
from gmd.evaluation.segmentation.failed_case import why_failed
from gmd.evaluation.trained_network import load_segmentation
from gmd.files import replacing
from gmd.memory_limit import check_claim
from gmd.output_paths import check_file
from gmd.subsets import all_subsets
from gmd.training.run_files import PAGE_OF_CASE, is_page_of_case
from gmd.view.case_view import CaseView, see_case
from gmd.view.page import page_of
from gmd.view.run_case import RunCase, find_case


def view(run: Path, case: str, out: Path | None = None, named: str | None = None) -> Path:
    """Writes a page of one case, and returns its path: slices of its images, its truth, and of every prediction.

    The page is one file, which needs no network, no server and no gmd. A page that gmd has written is replaced.

    Args:
        run: the folder of a training, finished or stopped, or of a cross-validation, whose fold that tests the case is
            taken.
        case: its name among the cases of the run.
        out: the page; by default `view_CASE.html` in the folder of the run.
        named: the network of the run, if that is one of the user's own; see `load_run`.

    Raises UserError: what `find_case` and `load_run` raise, a page that cannot be written there or would replace
        something else, a case that cannot be read or takes more memory than there is. Nothing is written then.
    """
    run = Path(run)
    found = find_case(run, case)
    path = _path_of(run, case) if out is None else Path(out)
    _check_out(path)
    _check_memory(found)
    checkpoint = describe_checkpoint(found.run, found.which)
    seen = _seen(found, named)
    regions, modalities = tuple(found.config.label_scheme().regions), found.config.modalities
    page = page_of(seen, found.shown_run, checkpoint, found.what_it_did, regions, modalities)
    with replacing(path) as unfinished:
        unfinished.write_text(page, encoding="utf-8", errors="backslashreplace")
    return path


def _seen(found: RunCase, named: str | None) -> CaseView:
    """Predicts the case. Raises UserError for one that cannot be used, or that there is no memory for."""
    config, network = load_segmentation(found.run, found.which, device="auto", named=named)
    try:
        return see_case(network, load_case(found.case), config)
    except (MemoryError, RuntimeError) as error:
        raise UserError(f"case {found.case.name}: {why_failed(error)}") from error


def _path_of(run: Path, case: str) -> Path:
    """Returns where the page goes by default. Raises UserError for a case whose name no file can have."""
    if "/" in case or "\0" in case:
        raise UserError(f"case {shown(case, 100)}: no file can be called so; say --out FILE.html")
    return run / PAGE_OF_CASE.format(case)


def _check_out(path: Path) -> None:
    """Raises UserError unless a page can be written there without replacing anything but a page of gmd's."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--out: got {path}, expected a name that ends in .html, as it is a page for a browser")
    check_file(path, "--out")
    if path.exists() and not is_page_of_case(path):
        raise UserError(
            f"{path}: is there already and is no page that gmd view has written; delete it if nobody needs it, or give "
            "another name by --out"
        )


def _check_memory(found: RunCase) -> None:
    """Raises UserError if the case and its predictions would take more memory than `most_bytes`."""
    case, regions = found.case, len(found.config.label_scheme().regions)
    claimed = memory_of(case) + _bytes_of_predictions(case, regions)
    check_claim(case.folder, claimed, f"case {case.name} and its predictions")


def _bytes_of_predictions(case: Case, regions: int) -> int:
    """Returns how many bytes predictions from every subset take, by the header of an image.

    Of each voxel: an image and the logits of each modality in float32, their sum, what is made of it, and one byte for
    each subset.
    """
    voxels = math.prod(map(int, open_image(next(iter(case.images.values()))).shape[:3]))
    of_a_modality = 4 * (1 + regions)
    return voxels * (of_a_modality * (len(case.images) + 1) + 3 * regions + len(all_subsets(tuple(case.images))))
