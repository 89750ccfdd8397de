"""What the tests of training share."""

import json
from pathlib import Path

TWO = ("flair", "t1ce")


def read_metrics(run: Path, kind: str) -> list[dict]:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [record for record in records if record["kind"] == kind]
