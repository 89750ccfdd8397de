"""The help of every command of gmd, as the terminal shows it, for the page of commands."""

import io
import os
import re
from contextlib import redirect_stdout
from unittest import mock

from gmd import cli

WIDTH = 110  # characters of a line
HELP = re.compile(r"^<!-- help: gmd ?(.*) -->$", re.MULTILINE)


def filled(markdown: str) -> str:
    """Returns a page with the help of a command in place of each line `<!-- help: gmd COMMAND -->`."""
    return HELP.sub(lambda match: f"```text\n{help_of(match[1].split())}\n```", markdown)


def help_of(words: list[str]) -> str:
    """Returns what `gmd WORDS --help` prints in a terminal without colours."""
    printed = io.StringIO()
    plain = {"COLUMNS": str(WIDTH), "NO_COLOR": "1", "TERM": "dumb"}
    with mock.patch.dict(os.environ, plain), redirect_stdout(printed):
        try:
            status = cli.main([*words, "--help"])
        except SystemExit as left:
            status = left.code
    if status:
        raise RuntimeError(
            f"gmd {' '.join(words)} --help ended with status {status}; its packages are missing, perhaps"
        )
    return "\n".join(line.rstrip() for line in printed.getvalue().strip().splitlines())
