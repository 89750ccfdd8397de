"""Networks for samples of any kinds: pictures, spectrograms, text, and features that others computed."""
