"""What label values mean in a run: those of its own cases, and of others that are named like them."""

from collections.abc import Iterable
from typing import NamedTuple

from gmd.config import TrainBrats
from gmd.data.segmentation.case import Case
from gmd.data.segmentation.label_names import left_by_names
from gmd.data.segmentation.label_scheme import LabelScheme
from gmd.evaluation.segmentation.listed_cases import ListedCase


class RunLabels(NamedTuple):
    """What the labels of a run's cases mean: what --labels said in training, whatever names tell.

    Attributes:
        by_name: name of a case -> what its label values mean.
        by_naming: schemes that the names of label maps leave -> what all those so named mean in the run.
    """

    by_name: dict[str, LabelScheme]
    by_naming: dict[tuple[str, ...], LabelScheme]

    @classmethod
    def of(cls, listed: Iterable[ListedCase], config: TrainBrats) -> "RunLabels":
        """Collects what the labels of all cases of a run mean. config: of the run"""
        by_name: dict[str, LabelScheme] = {}
        by_naming: dict[tuple[str, ...], list[LabelScheme]] = {}
        for case in listed:
            scheme = by_name[case.name] = case.scheme(config)
            if label := case.files.get("seg"):
                by_naming.setdefault(left_by_names(label), []).append(scheme)
        alike = {
            naming: schemes[0] for naming, schemes in by_naming.items() if schemes.count(schemes[0]) == len(schemes)
        }
        return cls(by_name, alike)

    def scheme(self, case: Case) -> LabelScheme | None:
        """Returns what the label values of a case mean, if the run has it, or cases that are named like it."""
        if own := self.by_name.get(case.name):
            return own
        return self.by_naming.get(left_by_names(case.label)) if case.label else None
