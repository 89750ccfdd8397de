"""What `make bench` measures: gradient surgery on the CPU, ours beside what others do with the same gradients."""
