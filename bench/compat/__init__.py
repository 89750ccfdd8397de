"""Whether gmd builds, passes a short suite and trains with each version of Python, torch and numpy: `make compat`."""
