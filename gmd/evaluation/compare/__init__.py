"""`gmd compare`: evaluated runs against the first of them, paired case by case."""
