"""What `make bench` measures on the CPU and `make gpu` on a GPU: gradient surgery, ours beside what others do."""
