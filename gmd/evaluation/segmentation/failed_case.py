"""Why a case failed: what is wrong with it is told, and the others go on; a bug of gmd stops all."""

from gmd.errors import UserError
from gmd.training.memory_advice import has_run_out_on_gpu, has_run_out_on_host


def why_failed(error: Exception) -> str:
    """Returns why a case cannot be used. Raises the error if it is a bug rather than something about the case."""
    if isinstance(error, UserError):
        return str(error)
    if has_run_out_on_gpu(error) or has_run_out_on_host(error):
        return f"out of memory ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
    raise error
