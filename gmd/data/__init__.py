"""From files on disk to tensors: NIfTI volumes, sequences, digits; and generated data to train on without any."""
