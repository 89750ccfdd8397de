"""What `gmd --help` prints. It needs nothing: it comes at once, and on an installation that lacks everything."""

from collections.abc import Sequence

from gmd.cli import extras

HELP = {"-h", "--help"}
COMMANDS = {
    "phantom": "Write a synthetic data set: tumours in the layout of BraTS 2021, or sequences with a sentiment.",
    "train": "Train a network: gmd train brats --data BraTS2021 --out runs/brats",
    "evaluate": "Score a trained run with every subset of the modalities: tables, pictures, every case, "
    "and the report.",
    "predict": "Segment a case, or every case of a folder, from whatever modalities there are.",
    "view": "Write a page of one case to scroll through: the prediction from every subset of the modalities beside the "
    "truth.",
    "compare": "Compare evaluated runs with the first of them, case by case: differences with 95 % bootstrap "
    "intervals.",
    "report": "Write what a run did into one page, report.html, which needs nothing else to be looked at.",
    "advise": "Say which method to try next, and why: from what a training shows so far, and what was measured of the "
    "methods.",
    "convert": "Make sequences of any layout, in files that may hold programs, into one file that holds numbers only.",
    "manifest": "Make a manifest, a csv with a row a sample, of CREMA-D, Food-101, MVSA, Kinetics-Sounds or IEMOCAP on "
    "disk.",
    "nnunet": "Train nnU-Net to segment with channels missing: what to set and to type, raw data, predictions, tables.",
    "doctor": "Say which kernels this installation has, what is missing, and why.",
}
EXAMPLES = """From nothing to a table of results, a report, and a segmentation:
  gmd phantom data/phantoms --cases 20 --shape 64 64 64
  gmd train brats --data data/phantoms --out runs/first --patch 64 64 64 --epochs 20
  gmd evaluate runs/first
  gmd predict runs/first --t1 a_t1.nii.gz --flair a_flair.nii.gz -o a_seg.nii.gz

The same for sequences of text, audio and vision:
  gmd phantom data/sentiment.npz --task sentiment
  gmd train sentiment --data data/sentiment.npz --out runs/second
  gmd evaluate runs/second

Pictures, sound, text and features, from files that a table lists, such as the folder of a data set of the field:
  gmd manifest crema-d CREMA-D -o CREMA-D/manifest.csv
  gmd train classify --data CREMA-D/manifest.csv --out runs/third
  gmd evaluate runs/third"""
DOCTOR = f"""usage: gmd doctor [-h]

{COMMANDS["doctor"]}

Example: gmd doctor"""


def answer(arguments: Sequence[str]) -> list[str] | None:
    """Returns the lines that `gmd`, `gmd --help` and `gmd doctor --help` print; None for all other arguments."""
    if not arguments or arguments[0] in HELP:
        return commands()
    return DOCTOR.split("\n") if arguments[0] == "doctor" and HELP & set(arguments) else None


def commands() -> list[str]:
    """Returns lines: the commands, examples, and what of the packages that they need is not installed."""
    lines = ["usage: gmd COMMAND ...", "", "Gradient surgery for multimodal learning with missing modalities.", ""]
    lines += ["Commands; `gmd COMMAND --help` tells the options of one:"]
    lines += [f"  • {name:9} {what}" for name, what in COMMANDS.items()]
    lines += ["", *EXAMPLES.split("\n")]
    if absent := extras.missing("train"):
        lines += ["", "Packages are missing that all commands but doctor need:", f"  {extras.advice(absent)}"]
    return lines
