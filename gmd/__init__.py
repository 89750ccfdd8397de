"""Gradient surgery for multimodal learning: train one model that works with any subset of its modalities.

The public API is these classes, and a function; the methods are around a torch optimizer that stays the user's own:

    GMD         merges the gradients of several objectives after clearing them of conflicts (Wang et al., AAAI 2024)
    Surgeon     merges them by any weighting of their inner products (MGDA, Nash-MTL, UPGrad and others)
    Weighting   is such a function with its options, which remembers what it has to, and can be smoothed
    CGGM        slows down the modality that is learnt fastest, guided by classifiers (Guo et al., NeurIPS 2024)
    MMPareto    lets a loss of each modality alone help its encoder, not against the joint one (Wei and Hu, ICML 2024)
    OGMGE       slows down the modality that predicts best by itself, and adds noise (Peng et al., CVPR 2022)
    MLA         lets the modalities take turns through one head that keeps what it was taught (Zhang et al., CVPR 2024)
    QMF         teaches each modality how sure it may be of a sample, which then weighs it (Zhang et al., ICML 2023)
    Scalarised  weighs losses by their values alone, the baselines STCH, FAMO, DWA, UW, RLW and GLS
    share       makes a network with norms of each modality's own of anybody's (Dynamic Sharing, Wang et al.): Shared
    Report      is what the `backward` of each of them returns: losses, Gramian, weights, conflicts

They need torch alone. The operations below them, on lists of gradients, are in `gmd_kernels`. The command `gmd` (data,
training, evaluation, prediction, reports) needs the packages of the extra `train`, and `bench/` those of `bench`. All
other modules of this package are internal: they may change without notice.
"""

from typing import TYPE_CHECKING

__version__ = "0.2.0"  # the one place that says it
__all__ = [
    "CGGM",
    "GMD",
    "MLA",
    "OGMGE",
    "QMF",
    "MMPareto",
    "Report",
    "Scalarised",
    "Shared",
    "Surgeon",
    "Weighting",
    "share",
]

# Torch is loaded with the first of these names that is used, not before: the command `gmd` has first to choose how
# torch's threads wait for each other (gmd/threads.py).
if TYPE_CHECKING:
    from gmd.sharing import Shared, share
    from gmd.surgery import CGGM, GMD, MLA, OGMGE, QMF, MMPareto, Report, Scalarised, Surgeon, Weighting
else:

    def __getattr__(name):
        """Returns a public name, or the module that they are from. Python asks here, once for each (PEP 562)."""
        if name not in (*__all__, "sharing", "surgery"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import gmd.sharing
        import gmd.surgery

        if name in __all__:  # the imports have put the modules there
            globals()[name] = getattr(gmd.sharing if name in gmd.sharing.__all__ else gmd.surgery, name)
        return globals()[name]

    def __dir__():
        """Returns the names that `dir(gmd)` and completion show, those included that were not asked for yet."""
        return sorted({*globals(), *__all__})
