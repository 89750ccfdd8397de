"""What is said of a training while it goes on: the lines of metrics.jsonl, TensorBoard, and who dominates."""
