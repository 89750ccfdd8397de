"""The methods that turn a step's losses into `.grad`; the optimizer stays the user's own. Needs torch alone.

`gmd` exports the methods for users (GMD, Surgeon, CGGM, MMPareto, OGMGE, MLA, QMF, Scalarised), their Report, and
Weighting, which Surgeon takes. MeanGradient is the baseline behind the same interface, and Criterion and Metric are the
types of the functions of predictions and targets that CGGM and OGMGE take. Modules whose names start with an underscore
are parts of these.
"""

from gmd.surgery._losses import Criterion, Metric
from gmd.surgery._weighting import Weighting
from gmd.surgery.cggm import CGGM
from gmd.surgery.gmd import GMD
from gmd.surgery.mean import MeanGradient
from gmd.surgery.mla import MLA
from gmd.surgery.mmpareto import MMPareto
from gmd.surgery.ogm_ge import OGMGE
from gmd.surgery.qmf import QMF
from gmd.surgery.report import Report
from gmd.surgery.scalarised import Scalarised
from gmd.surgery.surgeon import Surgeon

__all__ = [
    "CGGM",
    "GMD",
    "MLA",
    "OGMGE",
    "QMF",
    "Criterion",
    "MMPareto",
    "MeanGradient",
    "Metric",
    "Report",
    "Scalarised",
    "Surgeon",
    "Weighting",
]
