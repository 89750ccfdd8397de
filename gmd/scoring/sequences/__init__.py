"""Predictions on sequences, their metrics, and the table of all subsets."""
