"""nnU-Net with missing channels: its trainers with subset losses, and the commands around them. Needs nnunetv2."""
