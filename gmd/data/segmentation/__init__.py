"""Cases of tumours: NIfTI volumes on disk -> checked, normalised volumes -> random patches; and synthetic ones."""
