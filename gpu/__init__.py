"""`python -m gpu DIR`: everything that needs a GPU, in one call or two. Measuring itself is bench's business."""
