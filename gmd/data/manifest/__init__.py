"""Manifests: a csv with a row a sample, of pictures, sound, text and features on disk."""
