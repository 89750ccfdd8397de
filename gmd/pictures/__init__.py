"""The pictures that gmd draws, as PNG files.

`training` draws those of a run from its metrics.jsonl, with `curves` and `cosines`; `dominance` tells which modality
the network leans on, in a picture and in words; `case` draws a case with its predictions. `style` is common to all.
"""
