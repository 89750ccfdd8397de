"""`gmd view`: one page of a case, with slices to scroll through: the truth, and what the network says of each subset."""

from gmd.view.command import view

__all__ = ["view"]
