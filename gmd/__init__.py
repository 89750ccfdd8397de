"""gmd: gradient surgery for multimodal learning. `gmd.GMD(optimizer)` is the two-line way in; it needs torch alone."""

from gmd.surgery import CGGM, GMD, MLA, OGMGE, Report

__version__ = "0.1.0"
__all__ = ["CGGM", "GMD", "MLA", "OGMGE", "Report"]
