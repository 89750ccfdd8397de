"""Programs to read, run and change: each trains something with what `gmd` offers, in plain PyTorch."""
