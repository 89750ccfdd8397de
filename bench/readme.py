"""`python -m bench.readme`: puts the tables of the committed results between their markers in README.md."""

import re

import pandas as pd

from bench.host import ROOT
from bench.run import RESULTS
from bench.tables import step_markdown, surgery_markdown
from gmd.files import replacing

README = ROOT / "README.md"
DEMO = ROOT / "docs" / "demo" / "table.md"


def filled(text: str) -> str:
    """README's text with every generated table as the results have it now."""
    tables = {
        "demo table": DEMO.read_text(encoding="utf-8"),
        "surgery table": surgery_markdown(pd.read_csv(RESULTS / "surgery_cpu.csv")),
        "step table": step_markdown(pd.read_csv(RESULTS / "step_cpu.csv")),
    }
    for name, table in tables.items():
        pattern = re.compile(rf"<!-- {name} -->\n.*?<!-- end -->", re.DOTALL)
        text, count = pattern.subn(lambda _, t=table, n=name: f"<!-- {n} -->\n{t.strip()}\n<!-- end -->", text)
        if count != 1:
            raise ValueError(f"README.md: expected one '<!-- {name} -->' with its '<!-- end -->', found {count}")
    return text


if __name__ == "__main__":
    text = filled(README.read_text(encoding="utf-8"))
    with replacing(README) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
    print(README)
