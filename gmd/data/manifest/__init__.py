"""Pictures, sound, text and features from files that a table names: a row a sample, a column a modality."""
