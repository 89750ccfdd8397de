"""Runs scored on cases that they have not seen, and compared with each other."""
