"""What networks for segmentation have in common."""
