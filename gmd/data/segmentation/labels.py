"""The label schemes of public data sets, and the regions of a label map."""

from collections.abc import Iterable

import numpy as np

from gmd.data.segmentation.label_scheme import LabelScheme
from gmd.errors import UserError

_OEDEMA, _ENHANCING, _CAVITY = "oedema", "enhancing tumour", "resection cavity"
_CORE, _SNFH = "non-enhancing tumour core", "surrounding FLAIR hyperintensity"
_NESTED = {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)}


def _scheme(name: str, meanings: dict[int, str], regions: dict[str, tuple[int, ...]]) -> LabelScheme:
    return LabelScheme(name, {0: "background"} | meanings, regions)


SCHEMES: dict[str, LabelScheme] = {
    scheme.name: scheme
    for scheme in (
        # Menze et al. 2015, The Multimodal Brain Tumor Image Segmentation Benchmark
        _scheme(
            "brats2015",
            {1: "necrosis", 2: _OEDEMA, 3: "non-enhancing tumour", 4: _ENHANCING},
            {"WT": (2, 1, 3, 4), "TC": (1, 3, 4), "ET": (4,)},
        ),
        # Bakas et al. 2018; Baid et al. 2021
        _scheme(
            "brats2018",
            {1: "necrotic and non-enhancing core", 2: _OEDEMA, 4: _ENHANCING},
            {"WT": (2, 1, 4), "TC": (1, 4), "ET": (4,)},
        ),
        # glioma before treatment, 2023 on; sub-Saharan Africa: Adewole et al. 2023
        _scheme("brats2023", {1: "necrotic core", 2: _OEDEMA, 3: _ENHANCING}, _NESTED),
        # BraTS 2018-2021 as RFNet's preprocess.py writes them, 4 as 3: Ding et al. 2021
        _scheme("rfnet", {1: "necrotic and non-enhancing core", 2: _OEDEMA, 3: _ENHANCING}, _NESTED),
        # glioma after treatment: de Verdier et al. 2024, which scores the cavity by itself, outside the whole tumour
        _scheme("brats2024-gli", {1: _CORE, 2: _SNFH, 3: _ENHANCING, 4: _CAVITY}, _NESTED | {"RC": (4,)}),
        # metastases: Moawad et al. 2023; from 2025 after treatment, too
        _scheme("brats2023-met", {1: _CORE, 2: _SNFH, 3: _ENHANCING}, _NESTED),
        _scheme("brats2025-met", {1: _CORE, 2: _SNFH, 3: _ENHANCING, 4: _CAVITY}, _NESTED | {"RC": (4,)}),
        # children: Kazerooni et al. 2023; Kazerooni et al. 2024, who number anew
        _scheme("brats2023-ped", {1: "non-enhancing component", 2: _OEDEMA, 3: _ENHANCING}, _NESTED),
        _scheme(
            "brats2024-ped",
            {1: _ENHANCING, 2: "non-enhancing tumour", 3: "cystic component", 4: _OEDEMA},
            {"WT": (4, 2, 3, 1), "TC": (2, 3, 1), "ET": (1,)},
        ),
        # meningioma: LaBella et al. 2023; before radiotherapy: LaBella et al. 2024
        _scheme("brats2023-men", {1: _CORE, 2: _SNFH, 3: _ENHANCING}, _NESTED),
        _scheme("brats2024-men-rt", {1: "gross tumour volume"}, {"GTV": (1,)}),
        # Medical Segmentation Decathlon, Task01_BrainTumour: Antonelli et al. 2022, as its dataset.json has it
        _scheme(
            "msd",
            {1: _OEDEMA, 2: "non-enhancing tumour", 3: _ENHANCING},
            {"WT": (1, 2, 3), "TC": (2, 3), "ET": (3,)},
        ),
        _scheme("binary", {1: "lesion"}, {"lesion": (1,)}),
    )
}

_TOLERANCE = 1e-3  # files with a scale factor in the header hold 0.99999997 for 1


def region_targets(labels: np.ndarray, scheme: LabelScheme, where: str) -> np.ndarray:
    """Makes a label map the targets of the scheme: one 0/1 map per region, in the scheme's order.

    labels: [X, Y, Z], any real numeric type
    where: what the labels come from, such as a file, for the error message
    returns uint8 [R, X, Y, Z]
    Raises UserError for a value that the scheme does not know.
    """
    whole = np.rint(labels)
    known = np.isin(whole, scheme.values) & (np.abs(labels - whole) <= _TOLERANCE)
    if not known.all():
        raise _unknown_labels(np.unique(labels), np.unique(labels[~known]), scheme, where)
    return np.stack([np.isin(whole, values) for values in scheme.regions.values()]).astype(np.uint8)


def listed(schemes: Iterable[LabelScheme]) -> list[str]:
    """Returns a line for each scheme: its name, and what its values and regions mean."""
    return [f"  {scheme.name}: {scheme.described()}" for scheme in schemes]


def _unknown_labels(found: np.ndarray, unknown: np.ndarray, scheme: LabelScheme, where: str) -> UserError:
    """Returns the error for label values that the scheme does not know.

    It lists the schemes that have all values, but recommends none: that numbers fit says nothing of what they mean.

    found, unknown: all values of the label map and those that the scheme does not have, ascending
    """

    def has_all(other: LabelScheme) -> bool:
        return bool(np.isclose(found[:, None], other.values, rtol=0, atol=_TOLERANCE).any(axis=1).all())

    others = [other for other in SCHEMES.values() if has_all(other)]
    also = ". These have all values of the file, with these meanings:" if others else ""
    return UserError(
        f"{where}: label values {_numbers(found)} found, but scheme {scheme.name!r} has no {_numbers(unknown)}; it "
        f"says {scheme.described()}. Is this file a label map? Then look up in the documentation of the data set what "
        f"{_numbers(unknown)} means, as that a scheme has the number does not make it right, and give by --labels the "
        f"scheme that is meant, or a YAML file of your own{also}",
        listed(others),
    )


def _numbers(values: np.ndarray) -> str:
    return ", ".join(f"{value:g}" for value in values[:10]) + (", ..." if len(values) > 10 else "")
