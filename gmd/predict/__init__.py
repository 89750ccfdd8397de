"""`gmd predict`: from the modalities that a case has to a label map in its own grid."""

from gmd.predict.run import predict

__all__ = ["predict"]
