"""Scores of runs on cases that they have not seen, and comparisons of runs with each other."""
