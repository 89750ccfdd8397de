"""`gmd evaluate` of a run on samples, sequences or files: the table of all subsets, and every prediction."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from gmd.config import TrainClassify, TrainSamples
from gmd.config.missing_modalities import MissingInEvaluation
from gmd.data.missing import Missing
from gmd.data.sequences.samples import Sample
from gmd.errors import UserError
from gmd.evaluation.missing_curve import write_missing_curve
from gmd.evaluation.results_folder import results_folder, write_texts
from gmd.evaluation.scored_checkpoint import describe_checkpoint
from gmd.evaluation.shapley import OF_PREDICTIONS, with_contributions
from gmd.evaluation.trained_network import load_feature_network
from gmd.files import real_path
from gmd.models.multimodal import FeatureNetwork
from gmd.models.precision import Precision
from gmd.printing import say
from gmd.scoring.missing_curve import Curve, Kept, listed_point, missing_curve
from gmd.scoring.outcomes import Outcomes
from gmd.scoring.sequences.kept import kept_predictions
from gmd.scoring.sequences.prediction import predict_samples
from gmd.scoring.sequences.shapley import sample_contributions
from gmd.scoring.sequences.tables import (
    Predictions,
    Row,
    predictions_csv,
    subset_table,
    table_csv,
    table_markdown,
    table_row,
)
from gmd.scoring.table_text import markdown_text
from gmd.subsets import all_subsets
from gmd.together import agreed, by_first, is_first, shared_out
from gmd.training.outcomes import outcomes_of
from gmd.training.run_files import CHECKPOINT_RECORD, PREDICTIONS_ABSENT, remove_files
from gmd.training.run_lock import locked_together
from gmd.training.saved_run import read_splits
from gmd.training.tasks import read_samples
from gmd.training.tasks.samples import SampleData


def evaluate_run(
    run: Path,
    data: Path | None = None,
    which: Literal["best", "last"] = "best",
    precision: Precision | None = None,
    absent: MissingInEvaluation | None = None,
) -> list[Row]:
    """Scores a trained run, prints the tables; writes `table.md`, `table.csv`, `shapley.csv`, `predictions.csv`.

    Args:
        run: its folder; results go to `results_folder`.
        data: another file of the same kind, whose test split is scored, or the run's own file at a new place; by
            default the run's own test split.
        which: the checkpoint.
        precision: what the network computes in; by default that of the training.
        absent: what test samples lack, for a line more, with predictions in `predictions_absent.csv`, and for a curve,
            see `write_missing_curve`.

    returns a row for each subset of the run's modalities, small subsets first
    Raises UserError: a run of another task; what `load_run` and the readers raise; data gone, unfit, or trained on;
        another evaluation that is writing there. Raises OSError if a result cannot be written.
    """
    run, absent = Path(run), absent or MissingInEvaluation()
    it = agreed(lambda: _opened(run, data, which, precision, absent), "reading the run and its samples")
    folder = by_first(lambda: results_folder(run, it.data), "the folder of the results") or run
    with locked_together(folder):
        found = agreed(lambda: _as_trained(run, it.found), "reading the run's outcomes")
        rows, texts, curve = _score(it, found, absent.missing_curve)
        if not is_first():  # which writes the results
            return rows
        about = f"{_about(run, it.data, it.samples, it.checkpoint)}, {it.config.precision}"
        texts["table.md"] = f"{about}.\n\n{texts['table.md']}"
        texts[CHECKPOINT_RECORD] = f"{it.checkpoint}\n"
        remove_files(folder, {PREDICTIONS_ABSENT} - texts.keys())  # of an evaluation before, with --missing
        of_curve = write_missing_curve(folder, curve, it.data)
        written = write_texts(folder, texts, it.data)
    say(*texts["table.md"].split("\n"), *written, *of_curve)
    return rows


class _Opened(NamedTuple):
    """A run and the samples that it is to be scored on.

    Attributes:
        checkpoint: which one it is, in words.
        config: of the run, with the precision to predict in.
        network: on its device.
        lacking: what samples lack for a line more.
        found: what was read.
        data: where it comes from; None for the run's own.
        samples: the test split.
    """

    checkpoint: str
    config: TrainSamples
    network: FeatureNetwork
    lacking: Missing
    found: SampleData
    data: Path | None
    samples: list[Sample]


def _opened(
    run: Path,
    data: Path | None,
    which: Literal["best", "last"],
    precision: Precision | None,
    absent: MissingInEvaluation,
) -> _Opened:
    """Reads a run and its samples, or those of other data. Raises UserError as `evaluate_run`."""
    checkpoint = describe_checkpoint(run, which)  # before the network is read: a run at it may save a newer one then
    config, network = load_feature_network(run, which, precision)
    absent.check_curve(config.modalities)
    lacking = absent.missing_of(config.modalities, config.seed)
    found, data = _read(run, config, data)
    return _Opened(checkpoint, config, network, lacking, found, data, _test_samples(run, found, data))


def _about(run: Path, data: Path | None, samples: list[Sample], checkpoint: str) -> str:
    """Returns what was scored, in words that Markdown shows as they are."""
    place = "the test split" if data is None else markdown_text(data)
    return f"{len(samples)} samples of {place}; {checkpoint} of {markdown_text(real_path(run).name)}"


def _score(it: _Opened, found: SampleData, rates: Sequence[float]) -> tuple[list[Row], dict[str, str], Curve]:
    """Predicts and scores the samples.

    found: what was read, in the units of the training; rates: of the curve
    returns a row for each subset, the text files: name -> content, and the curve over the missing rate
    """
    config, samples, lacking = it.config, it.samples, it.lacking
    modalities, outcomes = config.modalities, found.outcomes
    has = {sample.name: tuple(m for m in modalities if m in sample.values) for sample in samples}
    # whatever is wrong with a list is told before the network runs
    kept = agreed(lambda: _kept(lacking, has), "what samples lack")
    apart = partial(shared_out, what="the predictions of the samples")
    predictions = predict_samples(it.network, samples, all_subsets(modalities), config, outcomes, found.collate, apart)
    rows = subset_table(predictions, modalities, outcomes)
    texts, extra = {"predictions.csv": predictions_csv(predictions, outcomes)}, {}
    if lacking:
        lessened = kept_predictions(predictions, kept)
        extra[lacking.label()] = table_row(lessened, None, outcomes).metrics
        texts[PREDICTIONS_ABSENT] = predictions_csv(lessened, outcomes)
    texts["table.md"] = table_markdown(rows, modalities, outcomes, extra)
    texts["table.csv"] = table_csv(rows, modalities, outcomes, extra)
    added = sample_contributions(predictions, modalities, outcomes)
    texts = with_contributions(texts, added, modalities, OF_PREDICTIONS, "prediction")
    measure = partial(_metrics_of_kept, predictions, outcomes)
    curve = missing_curve(has, rates, config.seed, measure)
    if curve and lacking.listed is not None:
        curve.append(listed_point(lacking.label(), has, kept, measure))
    return rows, texts, curve


def _kept(lacking: Missing, has: Mapping[str, tuple[str, ...]]) -> Kept:
    """Returns what each sample keeps. Raises UserError for a list that does not fit. has: what each has"""
    lacking.check_named(has)
    return lacking.kept_by(has)


def _metrics_of_kept(predictions: Predictions, outcomes: Outcomes, kept: Kept) -> dict[str, float]:
    """Returns the metrics of the samples with what each of them keeps."""
    return table_row(kept_predictions(predictions, kept), None, outcomes).metrics


def _read(run: Path, config: TrainSamples, data: Path | None) -> tuple[SampleData, Path | None]:
    """Reads the data, or the run's own if that is None.

    returns the data, and where they come from; None for the run's own, wherever they lie now
    Raises UserError as the readers do, and if the run's own are gone.
    """
    if data is None and not config.data.exists():
        raise UserError(
            f"{run}: its data are not at {config.data} any more; if they moved, give their new place: "
            f"gmd evaluate {run} --data NEWPLACE"
        )
    found = read_samples(config if data is None else _at(config, Path(data)))
    own = found.about["checksum"] == read_splits(run)["about"].get("checksum")
    return found, None if own else data


def _at(config: TrainSamples, data: Path) -> TrainSamples:
    """Returns the options with other data. The paths of a manifest begin in the run's --root, if that is there."""
    if isinstance(config, TrainClassify) and config.root is not None and not config.root.is_dir():
        return replace(config, data=data, root=None)
    return replace(config, data=data)


def _as_trained(run: Path, found: SampleData) -> SampleData:
    """Returns what was read, with the units that the run's network has learnt numbers in, which others may not have."""
    pairs = zip(found.outcomes, outcomes_of(read_splits(run)["about"]), strict=True)
    return replace(found, outcomes=tuple(ours._replace(mean=its.mean, std=its.std) for ours, its in pairs))


def _test_samples(run: Path, found: SampleData, data: Path | None) -> list[Sample]:
    """Returns the test split of what was read, after checks that the network fits it and has not seen it.

    found: what was read from `data`, or from the run's own data if that is None
    Raises UserError if the data have other features or targets, or if training or model selection has seen samples.
    """
    splits = read_splits(run)
    source = data or splits["data"]
    facts = _facts(found.about, data is None)
    _check_same_kind(run, source, facts, _facts(splits["about"], data is None))
    samples = found.splits["test"]
    seen = {sample["name"] for split in ("train", "validation") for sample in splits.cases(split)}
    if known := [sample.name for sample in samples if sample.name in seen]:
        raise UserError(
            f"{source}: {len(known)} of its {len(samples)} test samples have trained or selected this "
            f"model ({', '.join(known[:5])}); their scores would say nothing about new ones"
        )
    return samples


def _facts(about: Mapping[str, Any], own: bool) -> dict[str, object]:
    """Returns what the network depends on in its data: not on the scales of numbers, and not on how long texts are.

    about: as splits.json has it
    own: whether the data are to be those of the training, not only alike
    """
    facts = {key: value for key, value in about.items() if key not in ("checksum", "missing_list", "unit")}
    if "inputs" in about:
        facts["inputs"] = {
            m: [kind, {size: number for size, number in sizes.items() if size != "longest"}]
            for m, (kind, sizes) in about["inputs"].items()
        }
        facts["outputs"] = [(each["name"], each["classes"]) for each in about["outputs"]]
    return facts | ({"checksum": about.get("checksum")} if own else {})


def _check_same_kind(run: Path, source: object, facts: dict[str, object], trained: dict[str, object]) -> None:
    """Raises UserError if the facts differ from those of the data that the run was trained on.

    source: where the data are, for the message
    """
    if differing := [key for key in facts if facts[key] != trained.get(key)]:
        listed = "; ".join(f"{key}: {facts[key]} here, {trained.get(key)} in training" for key in differing)
        raise UserError(f"{source}: not what {run} was trained on ({listed})")
