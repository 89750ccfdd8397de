"""What the rows on a step of each method are called: here for the tables, which are read where MONAI may be missing."""

TOL = 1e-3**0.5  # of the compressed ways
JOINT, DROPOUT, ENUMERATE, EXACT = "joint", "dropout", "enumerate", "gmd, exact"
EVERY4, EVERY8 = "gmd, every=4", "gmd, every=8"
AUTO_QUIET, AUTO_CONFLICTING = "gmd, auto, no conflicts", "gmd, auto, conflicts"
COMPRESSED, BOTH, AUTOGRAM = f"gmd, tol={TOL:.2g}", f"gmd, every=8, tol={TOL:.2g}", "TorchJD's autogram"
