"""`make demo` ends with this: did the model learn what the README promises? `python tests/check_demo.py RUN`"""

import csv
import sys
from pathlib import Path

WT_WITH_ALL_MODALITIES, WT_MEAN_OF_SUBSETS = 0.80, 0.60


def main(run: Path) -> int:
    """0 if both bounds are met."""
    with open(run / "evaluation" / "table.csv", newline="") as file:
        whole_tumour = {row["subset"]: float(row["WT"]) for row in csv.DictReader(file)}
    full = whole_tumour["flair+t1+t1ce+t2"]
    mean = whole_tumour["mean"]
    print(f"whole tumour, all modalities:   Dice {full:.3f} (at least {WT_WITH_ALL_MODALITIES:.2f})")
    print(f"whole tumour, mean of subsets:  Dice {mean:.3f} (at least {WT_MEAN_OF_SUBSETS:.2f})")
    learnt = full >= WT_WITH_ALL_MODALITIES and mean >= WT_MEAN_OF_SUBSETS
    print("the model has learnt" if learnt else "THE MODEL HAS NOT LEARNT what it should have")
    return 0 if learnt else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
