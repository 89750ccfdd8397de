"""What predictions are worth: every subset of the modalities predicted, measured, and put into tables."""
