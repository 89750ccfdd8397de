"""What `make bench` measures on the CPU and `make gpu` on a GPU: gradient surgery, ours beside what others do.

`bench.measure` and `bench.gpu` measure, and leave rows; `bench.tables` makes tables, verdicts and pictures of them;
`bench.run` is the command for all that is in `bench.parts`.

Whatever of it is started, its threads wait for each other as those of the command `gmd` do.
"""

from gmd import threads

threads.choose()  # here, as torch is loaded by whichever module comes next
