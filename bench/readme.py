"""`python -m bench.readme`: puts the tables of the committed results between their markers in README.md and docs/."""

import re
from pathlib import Path

import pandas as pd

from bench import numerics
from bench.host import ROOT
from bench.run import RESULTS
from bench.tables import kernels_markdown, memory_markdown, step_markdown, surgery_markdown
from gmd.files import replacing

README, NUMERICS = ROOT / "README.md", ROOT / "docs" / "numerics.md"
DEMO = ROOT / "docs" / "demo" / "table.md"


def tables() -> dict[Path, dict[str, str]]:
    """For each file its generated tables by name, as the results have them now."""
    surgery, steps = pd.read_csv(RESULTS / "surgery_cpu.csv"), pd.read_csv(RESULTS / "step_cpu.csv")
    return {
        README: {
            "demo table": DEMO.read_text(encoding="utf-8"),
            "surgery table": surgery_markdown(surgery),
            "memory table": memory_markdown(surgery),
            "kernels table": kernels_markdown(surgery),
            "step table": step_markdown(steps),
        },
        NUMERICS: {"numerics table": numerics.markdown(pd.read_csv(RESULTS / "numerics_cpu.csv"))},
    }


def filled(path: Path) -> str:
    """A file's text with every generated table as the results have it now."""
    text = path.read_text(encoding="utf-8")
    for name, table in tables()[path].items():
        pattern = re.compile(rf"<!-- {name} -->\n.*?<!-- end -->", re.DOTALL)
        text, count = pattern.subn(lambda _, t=table, n=name: f"<!-- {n} -->\n{t.strip()}\n<!-- end -->", text)
        if count != 1:
            raise ValueError(f"{path.name}: expected one '<!-- {name} -->' with its '<!-- end -->', found {count}")
    return text


if __name__ == "__main__":
    for path in (README, NUMERICS):
        text = filled(path)
        with replacing(path) as unfinished:
            unfinished.write_text(text, encoding="utf-8")
        print(path)
