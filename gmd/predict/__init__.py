"""`gmd predict`: from the modalities that a case has to a label map in the grid of the case's own files.

Prediction is for segmentation only; a run on sequences is scored by `gmd evaluate`, which writes its predictions.
"""

from gmd.predict.command import predict

__all__ = ["predict"]
