"""How a step's gradients come about: from losses to `.grad`. The optimizer stays the user's own."""

from gmd.methods.cggm import CGGM
from gmd.methods.gmd import GMD
from gmd.methods.mla import MLA
from gmd.methods.ogm_ge import OGMGE
from gmd.methods.plain import MeanGradient
from gmd.methods.report import Report

__all__ = ["CGGM", "GMD", "MLA", "OGMGE", "MeanGradient", "Report"]
