"""Predictions of whole volumes, their Dice and HD95, and the table of all subsets."""
