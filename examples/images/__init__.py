"""The parts of `python -m examples.train_images`: pictures, their augmentation, networks, and the training."""
