"""`make gpu OUT=dir`: everything that needs a GPU, in one call. Measuring itself is bench's business."""
