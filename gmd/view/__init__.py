"""`gmd view`: a page of one case with slices to scroll through: the truth beside the prediction from every subset."""

from gmd.view.command import view

__all__ = ["view"]
