"""`gmd evaluate` of sentiment and digits: the table of all subsets, and every prediction."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from gmd.data.sequences.missing_modalities import make_absent
from gmd.data.sequences.samples import Sample, SequenceData
from gmd.errors import UserError
from gmd.evaluation.results_folder import CHECKPOINT, checkpoint_name, results_folder, write_texts
from gmd.models.precision import Precision, slowness
from gmd.scoring.sequences.prediction import predict_samples
from gmd.scoring.sequences.tables import Row, predictions_csv, subset_table, table_csv, table_markdown, table_row
from gmd.subsets import all_subsets
from gmd.training.saved_run import load_run, read_splits
from gmd.training.tasks.sequences import checksum, read_data


def evaluate_run(
    run: Path,
    data: Path | None = None,
    which: Literal["best", "last"] = "best",
    precision: Precision | None = None,
    missing: float | None = None,
) -> list[Row]:
    """Scores a trained run, prints the table, and writes `table.md`, `table.csv` and `predictions.csv`.

    Args:
        run: its folder; results go to `results_folder`.
        data: another file of the same kind, whose test split is scored; by default the run's own test split.
        which: the checkpoint.
        precision: what the network computes in; by default that of the training.
        missing: for a line more, of test samples that lack each modality with this probability, by the run's seed;
            their predictions go to `predictions_absent.csv`.

    Raises UserError: what `load_run` and the readers raise; data of other features, or that the run has trained on.
    """
    run = Path(run)
    checkpoint = checkpoint_name(run, which)  # before: of a run that is training, results may seem outdated, never new
    config, network = load_run(run, which)
    config = replace(config, precision=precision or config.precision)
    network.to(config.torch_device())
    if slow := slowness(config.precision, config.torch_device()):
        print(slow)
    found = read_data(config if data is None else replace(config, data=Path(data)))
    samples = _test_samples(run, found, data)
    predictions = predict_samples(network, samples, all_subsets(config.modalities), config)
    rows = subset_table(predictions, config.modalities, found.classes)
    texts, extra = {"predictions.csv": predictions_csv(predictions, found.classes)}, {}
    if missing is not None:
        lessened = make_absent(samples, missing, config.seed)
        present = predict_samples(network, lessened, [None], config)
        extra[f"{100 * missing:g} % absent, seed {config.seed}"] = table_row(present, None, found.classes).metrics
        texts["predictions_absent.csv"] = predictions_csv(present, found.classes)
    about = f"{len(samples)} samples of {data or 'the test split'}; {checkpoint} of {run.resolve().name}, "
    table = table_markdown(rows, config.modalities, found.classes, extra)
    texts["table.md"] = f"{about}{config.precision}.\n\n{table}"
    texts["table.csv"] = table_csv(rows, config.modalities, found.classes, extra)
    texts[CHECKPOINT] = f"{checkpoint}\n"
    written = write_texts(results_folder(run, data), texts, data)
    print(texts["table.md"], *written, sep="\n")
    return rows


def _test_samples(run: Path, found: SequenceData, data: Path | None) -> list[Sample]:
    """The test split, if the network fits it and has not seen it."""
    splits = read_splits(run)
    about, samples = splits["about"], found.splits["test"]
    ours = {"features": found.features, "classes": found.classes and list(found.classes), "per_step": found.per_step}
    if data is None:
        ours["checksum"] = checksum(found)
    if differing := [key for key in ours if ours[key] != about[key]]:
        told = "; ".join(f"{key}: {ours[key]} here, {about[key]} in training" for key in differing)
        raise UserError(f"{data or splits['data']}: not what {run} was trained on ({told})")
    seen = {sample["name"] for split in ("train", "validation") for sample in splits[split]}
    if known := [sample.name for sample in samples if sample.name in seen]:
        raise UserError(
            f"{data or splits['data']}: {len(known)} of its {len(samples)} test samples have trained or selected this "
            f"model ({', '.join(known[:5])}); their scores would say nothing about new ones"
        )
    return samples
