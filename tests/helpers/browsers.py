"""The browser in which tests open pages, if there is one."""

import shutil

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
IN_A_BROWSER = [
    pytest.mark.skipif(BROWSER is None, reason=f"no browser found: none of {', '.join(NAMES)} is in the PATH"),
    pytest.mark.slow,
]
