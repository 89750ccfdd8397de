"""Sequences of text, audio, vision: whatever file they come in -> samples -> padded batches; and synthetic ones."""
