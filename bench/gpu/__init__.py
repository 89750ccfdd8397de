"""Measurements on a GPU: the surgery, the norm, and a whole training step."""
