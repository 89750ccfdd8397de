"""nnU-Net with missing channels: trainers for it, and the commands around its predictor."""
