"""The table of a small Strip-MLP beside ResNet-18, from the rows of images.csv."""

import pandas as pd

from bench.measure.images import NETWORKS
from bench.tables.intervals import interval
from bench.tables.markdown import markdown_table, signed, significant

NAMES = {NETWORKS[0]: "Strip-MLP, width 32, depths 1-1-1-1", NETWORKS[1]: "ResNet-18"}


def images_markdown(table: pd.DataFrame) -> str:
    """Returns a row for each data set and network: accuracy with its 95 % t-interval over the seeds, and what it took.

    The last column is the accuracy above ResNet-18's, taken within each seed first; bold if the interval excludes 0.
    """
    columns = ("data", "network", "parameters", "test accuracy, %", "seconds per epoch", "points above ResNet-18")
    lines: list[tuple[str, ...]] = [columns]
    for data, rows in table.groupby("data", sort=False):
        shares = 100 * rows.pivot(index="seed", columns="network", values="test_accuracy")
        for network, of in rows.groupby("network", sort=False):
            mean, half = interval(shares[network])
            above = network != NETWORKS[1] and signed(*interval(shares[network] - shares[NETWORKS[1]]), digits=1)
            parameters = f"{of['parameters'].iloc[0]:,}"
            seconds = significant(float(of["cpu_s_per_epoch"].median()))
            lines.append((data, NAMES[network], parameters, f"{mean:.1f} ± {half:.1f}", seconds, above or ""))
    row = table.iloc[0]
    return (
        f"{markdown_table(lines)}\nMean over {table['seed'].nunique()} seeds with its 95 % t-interval; seconds of one "
        f"thread's processor, validation included, medians. Measured {row['date']} UTC on {row['cpu']}, torch "
        f"{row['torch']}, gmd {row['commit']}.\n"
    )
