"""The names of contestants that take part on a GPU alone: in bench.gpu, which measures them, and in the tables."""

MOVED = "surgery (moved)"  # never twice in a row from the same addresses
TRITON_GRAM, TRITON_COMBINE, TRITON_SURGERY = "gram (Triton)", "combine (Triton)", "surgery (Triton)"
TORCHS_FORM = "torch's form"  # of a weighting, on the GPU
