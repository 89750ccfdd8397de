"""`gmd evaluate` of runs on sequences, sentiment and digits among them."""
