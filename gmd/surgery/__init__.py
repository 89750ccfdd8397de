"""How a step's gradients come about: from losses to `.grad`. The optimizer stays the user's own."""

from gmd.surgery.cggm import CGGM
from gmd.surgery.gmd import GMD
from gmd.surgery.mean import MeanGradient
from gmd.surgery.mla import MLA
from gmd.surgery.ogm_ge import OGMGE
from gmd.surgery.report import Report

__all__ = ["CGGM", "GMD", "MLA", "OGMGE", "MeanGradient", "Report"]
