"""MOSI, digits and mfeat: samples that are classified, by `gmd train` and `gmd evaluate`. The score is the accuracy.

Besides the arms on the shared network there are those of networks of their own. The network that is scored is that of
the best validation.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from bench.evidence.arms import ON_OTHER_NETWORKS, arms_on_one_network, seconds, settings
from bench.evidence.task import Outcome, Request, Task
from bench.evidence.tasks import by_command
from bench.evidence.tasks.shared_data import lacking, made_once
from bench.measure import classify_data
from bench.measure.arms import Arm
from bench.measure.classify_data import Written
from gmd.subsets import Subset

Write = Callable[[Path, Path, int], Written]  # a file of data, the folder for a manifest, a seed
MOSI_FILE, FSDD_FILE, MFEAT_FILE = "mosi/mosi_utterances.npz", "fsdd/fsdd.npz", "mfeat/mfeat.npz"
MOSI_MODALITIES = ("text", "audio", "vision")


def run_file(request: Request, *, kind: str, source: str, options: Mapping[str, object]) -> Outcome:
    """Trains and scores one network on a file that `gmd train` reads as it is."""
    return by_command.evaluate(by_command.train(request, kind, {**options, "data": request.data / source}), "accuracy")


def run_manifest(request: Request, *, write: Write, drawn: bool, source: str, options: Mapping[str, object]) -> Outcome:
    """Trains and scores one network on a manifest, which is written once; `drawn`: once for each seed."""
    name = f"seed {request.seed}" if drawn else "manifest"
    folder = made_once(request.shared, name, lambda made: write(request.data / source, made, request.seed))
    [manifest] = folder.glob("*.csv")
    # a thread that learns has nothing to do while another reads: it reads itself
    given = {"data": manifest, "root": (request.data / source).parent, "workers": 0, "network": "ds"}
    return by_command.evaluate(by_command.train(request, "classify", {**options, **given}), "accuracy")


def _arms(modalities: Subset) -> tuple[Arm, ...]:
    return (*arms_on_one_network(modalities), *ON_OTHER_NETWORKS)


MOSI = Task(
    name="mosi",
    title="MOSI, utterance features",
    modalities=MOSI_MODALITIES,
    score="accuracy, negative or not",
    arms=_arms(MOSI_MODALITIES),
    settings=settings(MOSI_MODALITIES, (3e-4, 1e-3, 3e-3), (1e-2, 1e-1), (3e-4, 1e-3)),
    run=partial(
        run_file,
        kind="sentiment",
        source=MOSI_FILE,
        options={"epochs": 10, "batch": 8, "validate_every": 2, "target": "sign"},
    ),
    lacking=partial(lacking, needed=(MOSI_FILE,)),
    seeds=10,
    seconds=seconds(_arms(MOSI_MODALITIES), 4.0, 5.1, cggm=5.7, ogm_ge=5.9),
)
MOSI_TEXT_AUDIO = Task(
    name="mosi-text-audio",
    title="MOSI, transcripts and audio features",
    modalities=("text", "audio"),
    score="accuracy, negative or not",
    arms=_arms(("text", "audio")),
    settings=settings(("text", "audio"), (1e-3, 3e-3, 1e-2), (1e-2,), (3e-3,)),
    run=partial(
        run_manifest,
        write=classify_data.mosi,
        drawn=False,
        source=MOSI_FILE,
        options={"epochs": 8, "batch": 32, "width": 32, "layers": 1, "longest": 30, "vocabulary": 4096},
    ),
    lacking=partial(lacking, needed=(MOSI_FILE,)),
    seeds=5,
    seconds=seconds(_arms(("text", "audio")), 10.0, 11.0, cggm=11.0, ogm_ge=11.0, mla=11.0),
)
DIGITS = Task(
    name="digits",
    title="digits, written and spoken",
    modalities=("audio", "image"),
    score="accuracy",
    arms=_arms(("audio", "image")),
    settings=settings(("audio", "image"), (1e-3, 3e-3, 1e-2), (1e-2,), (3e-3,)),
    run=partial(
        run_file,
        kind="digits",
        source=FSDD_FILE,
        options={"epochs": 3, "width": 32, "layers": 1},
    ),
    lacking=partial(lacking, needed=(FSDD_FILE,)),
    seeds=5,
    seconds=seconds(_arms(("audio", "image")), 11.0, 12.0, cggm=13.0, ogm_ge=12.0, mla=12.0),
)
MFEAT = Task(
    name="mfeat",
    title="digits seen by six modalities",
    modalities=classify_data.MFEAT,
    score="accuracy",
    arms=_arms(classify_data.MFEAT),
    settings=settings(classify_data.MFEAT, (1e-3, 3e-3, 1e-2), (1e-2,), (3e-3,)),
    run=partial(
        run_manifest,
        write=classify_data.mfeat,
        drawn=True,
        source=MFEAT_FILE,
        options={"epochs": 10, "validate_every": 5, "batch": 32, "width": 32, "layers": 1},
    ),
    lacking=partial(lacking, needed=(MFEAT_FILE,)),
    seeds=5,
    seconds=seconds(_arms(classify_data.MFEAT), 9.0, 18.0, cggm=11.0, ogm_ge=10.0, mla=14.0),
)
TASKS = (MOSI, MOSI_TEXT_AUDIO, DIGITS, MFEAT)
