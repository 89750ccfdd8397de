"""Scores and predictions from every subset of the modalities, and their tables."""
