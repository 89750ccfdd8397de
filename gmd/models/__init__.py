"""Networks. Every one of them works on (sample, modality) pairs, see `multimodal`."""
