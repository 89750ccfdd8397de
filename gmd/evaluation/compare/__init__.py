"""`gmd compare`: the differences between evaluated runs and the first of them, paired case by case."""
