"""What `make bench` measures on the CPU and `make gpu` on a GPU: gradient surgery, ours beside what others do.

`bench.measure` and `bench.gpu` measure, and leave rows; `bench.tables` makes tables, verdicts and pictures of them;
`bench.run` is the command for all that is in `bench.parts`.
"""
