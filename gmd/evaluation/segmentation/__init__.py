"""`gmd evaluate` of runs that segment: single runs, and cross-validations."""
