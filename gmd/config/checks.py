"""What is said of an option whose value cannot be: which one it is, what it got, and what was expected."""

from gmd.errors import UserError


def option_text(values: object) -> str:
    """Returns the value of an option as one would type it on the command line."""
    return " ".join(map(str, values)) if isinstance(values, tuple) else str(values)


def check_option(good: bool, name: str, got: object, expected: str) -> None:
    """Raises UserError if the value is not good: which option, what it got, and what was expected."""
    if not good:
        raise UserError(f"--{name.replace('_', '-')}: got {option_text(got)}, expected {expected}")
