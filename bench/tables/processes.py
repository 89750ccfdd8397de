"""The table of a step in several processes, from the rows of processes_cpu.csv."""

import pandas as pd

from bench.measure.processes import GLOBAL, LOCAL
from bench.tables.markdown import head, line, megabytes, significant
from bench.tables.results import footnote


def processes_markdown(processes: pd.DataFrame) -> str:
    """Returns seconds, traffic and memory of a step with surgery on each process's batch, and on all of them."""
    lines = head("processes", "local, s", "global, s", "ratio", "sent by each, MB", "collectives", "memory, MB")
    for world, rows in processes.groupby("processes", sort=False):
        of = rows.set_index("contestant")
        both = [of.loc[scope] for scope in (LOCAL, GLOBAL)]
        cells = [significant(one["median_ms"] / 1e3) for one in both] + [f"{both[1]['ratio_to_local']:.2f}"]
        cells += [", ".join(megabytes(one["sent_MB"]) for one in both)]
        cells += [", ".join(f"{one['big']} + {one['small']}" for one in both)]
        cells += [", ".join(megabytes(one["peak_MB"]) for one in both)]
        lines.append(line(str(world), *cells))
    note = "Where there are two figures, the first is local; collectives: large ones + those below 4 KB. "
    return "\n".join([*lines, "", note + footnote(processes)])
