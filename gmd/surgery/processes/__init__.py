"""Surgery over several processes as one process would make it on their batches together, `scope="global"`.

Weights are a function of the objectives' Gramian over the whole batch, and the combination is linear in the gradients.
So `agreement` finds which objectives there are and what each process has of them; an engine makes gradients of the
whole batch and leaves a part of each on each process; their Gramians add up to the whole one; and each process combines
the parts that it has. `replicated` is the engine where every process has all parameters (DistributedDataParallel),
`sharded` the one where they are cut up between processes (fully_shard, tensor parallelism).
"""
