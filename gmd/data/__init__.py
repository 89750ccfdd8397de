"""From NIfTI files on disk to tensors: cases and splits, label schemes, volumes, and synthetic phantoms."""
