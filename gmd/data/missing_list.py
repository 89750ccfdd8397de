"""Lists of which modalities each sample keeps: the mask files of the field, and tables of one's own.

    case,mask                                IM-Fuse: "[False, False, True, False]" of flair, t1ce, t1, t2
    data_name,mask_id,mask,pos_mask_ids      PASSION's imbalanced missing rates, in the same order
    id,text,audio,vision                     any task: 1 where the sample keeps the modality, 0 where it does not

True and 1 mean that the modality is there. The first column has the samples' names, whatever it is called.
"""

from collections.abc import Sequence
from pathlib import Path

from gmd.data.text_files import read_csv
from gmd.errors import UserError, shown

ORDER_OF_MASKS = ("flair", "t1ce", "t1", "t2")  # of the segmentation field, since RFNet (Ding et al., ICCV 2021)
_THERE = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


def read_missing_list(path: str | Path, modalities: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Reads which modalities each sample keeps: name -> some of the modalities, at least one, in their order.

    modalities: of the network; columns of others are not looked at
    Raises UserError: no such file, no table, columns of neither kind, a mask of another length, a cell that is neither
        true nor false, a sample that keeps none of the modalities, or is there twice.
    """
    path = Path(path)
    try:
        (_, header), *lines = read_csv(path, advice="Expected a table of text (CSV) with commas, UTF-8")
    except FileNotFoundError:
        raise UserError(
            f"{path}: there is no such file; expected a table of which modalities each sample keeps"
        ) from None
    header = [name.strip() for name in header]
    header[0] = header[0].removeprefix("\ufeff")  # a byte-order mark
    order = _order(path, header, modalities)
    listed: dict[str, tuple[str, ...]] = {}
    for number, cells in lines:
        name, where = cells[0].strip(), f"{path}: line {number}"
        if not name or name in listed:
            raise UserError(f"{where}: got {f'{shown(name, 80)} twice' if name else 'no name'}, expected a new name")
        marks = _cells(header, cells, order)
        if len(marks) > len(order):
            raise UserError(f"{where}: the mask of {shown(name, 80)} has {len(marks)} entries, expected {len(order)}")
        listed[name] = _kept(where, name, dict(zip(order, marks, strict=False)), modalities)
    if not listed:
        raise UserError(f"{path}: names no sample, expected a line for each")
    return listed


def _order(path: Path, header: Sequence[str], modalities: Sequence[str]) -> tuple[str, ...]:
    """Returns the modalities that the cells of a line are of, in order. Raises UserError if the columns do not say."""
    if "mask" in header and "mask" not in modalities:
        unknown = [m for m in modalities if m not in ORDER_OF_MASKS]
        if not unknown:
            return ORDER_OF_MASKS
        raise UserError(
            f"{path}: its masks are of {', '.join(ORDER_OF_MASKS)}, and the run has {', '.join(unknown)}; expected a "
            "column for each modality instead, with 1 and 0"
        )
    if twice := [m for m in modalities if header.count(m) > 1]:
        raise UserError(f"{path}: has two columns {', '.join(twice)}, expected one of each")
    if absent := [m for m in modalities if m not in header]:
        raise UserError(
            f"{path}: has the columns {shown(', '.join(header), 200)}, expected `mask`, or a column for each modality: "
            f"there is none for {', '.join(absent)}"
        )
    return tuple(header[1:])


def _cells(header: Sequence[str], cells: Sequence[str], order: Sequence[str]) -> Sequence[str]:
    """Returns what a line says of each modality, as text."""
    if order is not ORDER_OF_MASKS:
        return cells[1:]
    return cells[list(header).index("mask")].strip(" []()").replace(",", " ").split()


def _kept(where: str, name: str, there: dict[str, str], modalities: Sequence[str]) -> tuple[str, ...]:
    """Returns the modalities that a sample keeps. there: modality -> what the line says of it"""
    if missing := [m for m in modalities if m not in there]:
        raise UserError(f"{where}: the mask of {shown(name, 80)} says nothing of {', '.join(missing)}")
    for m in modalities:
        if there[m].strip().lower() not in _THERE:
            raise UserError(f"{where}: {m}: got {shown(there[m], 40)!r}, expected 1 or 0, True or False")
    kept = tuple(m for m in modalities if _THERE[there[m].strip().lower()])
    if not kept:
        raise UserError(f"{where}: {shown(name, 80)} keeps none of {', '.join(modalities)}, expected one at least")
    return kept
