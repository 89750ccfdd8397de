"""The 3-D U-Net of Dynamic Sharing and its convolutions."""
