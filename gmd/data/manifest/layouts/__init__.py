"""Manifests of the field's data sets, made from the lists and folders in which these are handed around.

A list names samples (`listed.py`), places say where their files may lie (`places.py`), a split says who tests
(`splits.py`), and `build.py` writes what comes of it. Each data set has a file of its own, and those lists that several
data sets share have one too (`mmbt.py`, `mla.py`).
"""
