"""`gmd evaluate` of runs on sequences."""
