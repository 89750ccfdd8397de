"""Reads files into tensors: NIfTI volumes, sequences, digits; and generates data to train on without any files."""
