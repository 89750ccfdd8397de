"""`python -m bench.evidence`: every method on every data set, tuned alike, for the tables of docs/evidence.md."""
