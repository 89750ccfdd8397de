"""nnU-Net with missing channels: trainers for it, and what goes around its predictor."""
