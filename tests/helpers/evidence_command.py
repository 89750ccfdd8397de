"""The evidence's command on a made-up task whose runs take some time, for a test to kill: by the words it is given."""

import sys

from bench.evidence.command import evidence
from helpers.evidence_cases import task

if __name__ == "__main__":
    sys.exit(evidence(sys.argv[1:], [task("toy", seeds=3, seconds=0.2, pause=0.2)], lambda out: []))
