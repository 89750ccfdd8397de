"""What `make bench` measures: gradient surgery on the CPU, ours beside the published procedure and TorchJD's."""
