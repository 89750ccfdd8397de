"""From files on disk to tensors: NIfTI volumes, sequences of text, audio and vision, digits, and generated ones of each."""
