"""`gmd evaluate` of runs that segment, single ones and cross-validations."""
