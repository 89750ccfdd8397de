"""The error class of mistakes that a user can mend."""


class UserError(ValueError):
    """An error the user can mend; the command line prints its message without a traceback."""
