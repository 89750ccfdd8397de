"""The one error class that the command line knows."""


class UserError(ValueError):
    """An error the user can mend; the command line prints its message without a traceback."""
