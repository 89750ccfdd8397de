"""From the rows of bench/results/*.csv to the tables, verdicts and pictures that people look at."""
