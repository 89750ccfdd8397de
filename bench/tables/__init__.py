"""Makes tables, verdicts and pictures for people from the rows of bench/results/*.csv."""
