"""The transformers for sequences: one shared encoder, one for each modality, or branches."""
