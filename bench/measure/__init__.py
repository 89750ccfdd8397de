"""What is measured on a CPU: the surgery, whole steps, evaluation, prediction, numerics, and methods on real data."""
