"""`python tests/check_demo.py RUN`: checks that the models of `make demo` have learnt what the README promises."""

import csv
import sys
from pathlib import Path

WT_WITH_ALL_MODALITIES, WT_MEAN_OF_SUBSETS = 0.80, 0.60
CORRELATION = 0.50  # with the score, from all three; text alone cannot tell more than 0.66


def main(run: Path) -> int:
    """Prints what the models of a run score; returns 0 if all bounds are met, else 1."""
    whole_tumour = read_table(run / "evaluation" / "table.csv", "WT")
    correlation = read_table(run / "sentiment" / "evaluation" / "table.csv", "Corr")
    checks = [
        ("whole tumour, all modalities:   Dice", whole_tumour["flair+t1+t1ce+t2"], WT_WITH_ALL_MODALITIES),
        ("whole tumour, mean of subsets:  Dice", whole_tumour["mean"], WT_MEAN_OF_SUBSETS),
        ("sentiment, all modalities: correlation", correlation["text+audio+vision"], CORRELATION),
    ]
    for name, value, bound in checks:
        print(f"{name} {value:.3f} (at least {bound:.2f})")
    learnt = all(value >= bound for _, value, bound in checks)
    print("the models have learnt" if learnt else "THE MODELS HAVE NOT LEARNT what they should have")
    return 0 if learnt else 1


def read_table(path: Path, column: str) -> dict[str, float]:
    """The values of one column of a table of scores, by subset."""
    with open(path, newline="") as file:
        return {row["subset"]: float(row[column]) for row in csv.DictReader(file)}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
