"""What is recorded of a training while it goes on, and what these records say of the modalities.

`records` makes the lines of metrics.jsonl, `metrics_file` writes, cuts and reads that file, `tensorboard` shows the
same numbers as scalars, and `log` keeps the two in step. `dominance` measures what a step says of each modality, and
`dominance_verdict` says in sentences which one dominates. `transfer` brings a step's report to the host, `resources`
tells the device and its memory.
"""
