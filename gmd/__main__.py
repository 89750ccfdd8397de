"""`python -m gmd` is the command `gmd`."""

import sys

from gmd.cli import main

sys.exit(main())
