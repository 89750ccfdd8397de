"""Reads files into tensors: NIfTI volumes, sequences, digits; and generates data to train on without any files."""

SPLITS = ("train", "validation", "test")  # in this order wherever they are listed
