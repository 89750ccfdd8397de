"""The trainings that the studies compare: options of `gmd train`, beside which all is the same in a study."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gmd.subsets import Subset, subset_name


@dataclass(frozen=True)
class Arm:
    """One of the trainings that are compared.

    Attributes:
        name: in the tables, and of the folders of its runs.
        options: of `gmd train`, the method among them.
        base: the arm that it is measured against, on the same network; None: it is one of these itself.
    """

    name: str
    options: Mapping[str, Any]
    base: str | None = None

    @property
    def method(self) -> object:
        """Returns the method of `gmd train`."""
        return self.options["method"]


GMD: Mapping[str, Any] = {"method": "gmd", "every": 1}  # the exact one, whatever the default is
EXACT, EVERY_8, AUTO = "gmd", "gmd, every 8", "gmd, auto"
ARMS = (
    Arm("joint", {"method": "joint"}),
    Arm("dropout", {"method": "dropout"}, "joint"),
    Arm("enumerate", {"method": "enumerate"}, "joint"),
    Arm(EXACT, GMD, "joint"),
    Arm(EVERY_8, {**GMD, "every": 8}, "joint"),
    Arm(AUTO, {**GMD, "every": "auto"}, "joint"),
    Arm("gmd, tol 0.03", {**GMD, "tol": 0.0316}, "joint"),
    Arm("gmd, tol 0.1", {**GMD, "tol": 0.1}, "joint"),
    Arm("pcd, every 8", {"method": "surgery", "weighting": "pcd", "every": 8}, "joint"),
    Arm("fairgrad, every 8", {"method": "surgery", "weighting": "fairgrad", "every": 8}, "joint"),
)


def arms_for(modalities: Subset) -> tuple[Arm, ...]:
    """Returns the arms as they are on data of these modalities: pcd follows the objective of all of them."""
    primary = {"weighting_options": (f"primary={subset_name(modalities)}",)}
    return tuple(
        replace(arm, options={**arm.options, **primary}) if arm.options.get("weighting") == "pcd" else arm
        for arm in ARMS
    )
