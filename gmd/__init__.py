"""Gradient surgery for multimodal learning: train one model that works with any subset of its modalities.

The public API is five classes, each around a torch optimizer that stays the user's own:

    GMD     merges the gradients of several objectives after clearing them of conflicts (Wang et al., AAAI 2024)
    CGGM    slows down the modality that is learnt fastest, guided by classifiers (Guo et al., NeurIPS 2024)
    OGMGE   slows down the modality that predicts best by itself, and adds noise (Peng et al., CVPR 2022)
    MLA     lets the modalities take turns through one head that keeps what it was taught (Zhang et al., CVPR 2024)
    Report  is what the `backward` of each of them returns: losses, Gramian, weights, conflicts

They need torch alone. The operations below them, on lists of gradients, are in `gmd_kernels`. The command `gmd` (data,
training, evaluation, prediction, reports) needs the extra `gmd[train]`, and `bench/` needs `gmd[bench]`. All other
modules of this package are internal: they may change without notice.
"""

from gmd.surgery import CGGM, GMD, MLA, OGMGE, Report

__version__ = "0.1.0"
__all__ = ["CGGM", "GMD", "MLA", "OGMGE", "Report"]
