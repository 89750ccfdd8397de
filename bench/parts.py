"""The parts of `python -m bench.run`: what each measures, at which sizes, how it is shown, and what was expected."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import pandas as pd
from tqdm import tqdm

from bench.measure import nnunet, norm, norm_host, owm, sketch
from bench.measure.auto_interval import count_refreshes
from bench.measure.cases import CASES, LAYOUTS, SUFFIXES, Case
from bench.measure.cggm_step import measure_cggm
from bench.measure.one_gradient import NAMES as GRADIENT_WAYS
from bench.measure.one_gradient import measure_one_gradient
from bench.measure.processes import PROCESSES, measure_processes
from bench.measure.sequence_step import measure_sequence_step
from bench.measure.share import CASES as SHARE_CASES
from bench.measure.share import measure_share
from bench.measure.step import measure_step
from bench.measure.step_methods import TRAININGS, measure_step_methods
from bench.measure.step_networks import dynunet, segresnet, transformer, unet
from bench.measure.strip_mlp import measure_strip_mlp
from bench.measure.surgery import measure_surgery, warm_up, with_ratio_to_float32
from bench.measure.timing import ROUNDS
from bench.measure.weightings import SIZES, measure_weightings, names
from bench.tables import targets
from bench.tables.evaluation import evaluation_markdown
from bench.tables.nnunet import nnunet_markdown
from bench.tables.norm import norm_markdown
from bench.tables.norm_host import norm_host_markdown, norm_host_verdicts
from bench.tables.owm import owm_markdown
from bench.tables.processes import processes_markdown
from bench.tables.sequences import cggm_markdown, sequence_step_markdown
from bench.tables.share import share_markdown
from bench.tables.sketch import one_gradient_markdown, sketch_markdown
from bench.tables.step import step_markdown, step_methods_markdown
from bench.tables.strip_mlp import strip_mlp_markdown
from bench.tables.surgery import kernels_markdown, memory_markdown, surgery_markdown
from bench.tables.weightings import weightings_markdown

QUICK_CASES = ("small-0.3M-T7", "transformer-5.6M-T4", "transformer-5.6M-T4-bf16")
STEPS = ({"width": 0.5, "size": 32, "rounds": 5}, {"width": 0.5, "size": 48, "rounds": 3})
QUICK_STEPS = ({"width": 0.125, "size": 16, "rounds": 2},)
# networks, and in how many rounds each is measured
STEP_NETWORKS = (
    (partial(unet, 0.5, 32), 2),
    (partial(unet, 0.5, 32, bfloat16=True), 2),
    (partial(transformer, 64, 2), 15),
    (partial(segresnet, 32), 1),
    (partial(dynunet, 32), 1),
)
QUICK_STEP_NETWORKS = ((partial(unet, 0.125, 16), 1), (partial(transformer, 64, 2), 1))
EVALUATIONS = ({"width": 0.5, "size": 32, "rounds": 5}, {"width": 0.5, "size": 48, "rounds": 3})
SEQUENCE_STEPS = ({"width": 64, "layers": 2, "rounds": 15}, {"width": 128, "layers": 4, "rounds": 7})
QUICK_SEQUENCE_STEPS = ({"width": 64, "layers": 2, "rounds": 2},)
NNUNET_STEPS = ({"patch": nnunet.PATCH, "features": nnunet.FEATURES, "rounds": 5},)
QUICK_NNUNET_STEPS = ({"patch": (8, 8, 8), "features": (4, 4, 8), "rounds": 1},)
STRIP_MLP = {"size": 64, "batch": 16, "rounds": 15}
QUICK_STRIP_MLP = {"size": 64, "batch": 8, "rounds": 2}
SHARE, QUICK_SHARE = {"size": 32, "rounds": 21}, {"size": 32, "rounds": 2}
SEVERAL_PROCESSES, QUICK_PROCESSES = {"rounds": 5}, {"rounds": 1, "width": 64, "layers": 1}
CGGM_STEPS = ({"width": 64, "layers": 2, "rounds": 41}, {"width": 128, "layers": 4, "rounds": 15})


class Part(NamedTuple):
    """One part of the benchmark.

    Attributes:
        name: of the part, and of its results, `name`_cpu.csv.
        measure: returns the rows of the results; given True, little of it in few rounds.
        shows: make the tables that are printed.
        verdicts: says which of what was expected has been reached.
        lacking: says what is missing here to measure it; nothing, as a rule.
    """

    name: str
    measure: Callable[[bool], list[dict]]
    shows: Sequence[Callable[[pd.DataFrame], str]]
    verdicts: Callable[[pd.DataFrame], list[str]]
    lacking: Callable[[], str] = str


def surgeries(quick: bool) -> list[dict]:
    """Measures the surgery alone, on every case of the registry."""
    cases = [CASES[name] for name in QUICK_CASES] if quick else list(CASES.values())
    for dtype in SUFFIXES:
        warm_up(Case("small-0.3M", LAYOUTS["small-0.3M"], 7, dtype))
    rows = []
    with tqdm(total=len(cases) * ROUNDS, unit="round") as bar:
        for case in cases:
            bar.set_description(case.name)
            rows += measure_surgery(case, partial(bar.update, 1))
    return with_ratio_to_float32(rows)


def steps(quick: bool) -> list[dict]:
    """Measures a whole training step on the U-Net."""
    return _each("whole step", measure_step, QUICK_STEPS if quick else STEPS)


def step_methods(quick: bool) -> list[dict]:
    """Measures a step of each method beside one of joint training, on several networks."""
    networks = QUICK_STEP_NETWORKS if quick else STEP_NETWORKS
    with tqdm(total=len(TRAININGS) + sum(rounds for _, rounds in networks), unit="round") as bar:
        counted = {}
        for name, training in TRAININGS.items():
            bar.set_description(name)
            counted[name] = count_refreshes(training.shortened() if quick else training)
            bar.update()
        rows = []
        for make, rounds in networks:
            setup = make()
            bar.set_description(setup.case)
            rows += measure_step_methods(setup, rounds, counted, partial(bar.update, 1))
    return rows


def norms(quick: bool) -> list[dict]:
    """Measures GroupNorm + ReLU at the shapes of the U-Net."""
    with tqdm(total=len(list(norm.cases())), unit="case", desc="norm") as bar:
        return norm.measure_norm(1 if quick else ROUNDS, partial(bar.update, 1))


def norm_hosts(quick: bool) -> list[dict]:
    """Measures what the host does for one call of the norm."""
    rounds = 1 if quick else norm_host.ROUNDS
    with tqdm(total=1 + rounds, unit="round", desc="norm_host") as bar:
        return norm_host.measure_norm_host(rounds, partial(bar.update, 1))


def owms(quick: bool) -> list[dict]:
    """Measures the update of MLA's projector."""
    with tqdm(total=len(owm.cases()), unit="case", desc="owm") as bar:
        return owm.measure_owm(1 if quick else ROUNDS, partial(bar.update, 1))


def sketches(quick: bool) -> list[dict]:
    """Measures the count sketch of a gradient."""
    chosen = sketch.cases()[:2] if quick else sketch.cases()
    with tqdm(total=len(chosen), unit="case", desc="sketch") as bar:
        return sketch.measure_sketches(chosen, 1 if quick else ROUNDS, partial(bar.update, 1))


def one_gradients(quick: bool) -> list[dict]:
    """Measures memory and time of a surgery whose gradients are kept, or folded into sketches."""
    with tqdm(total=len(GRADIENT_WAYS), unit="way", desc="one_gradient") as bar:
        return measure_one_gradient("quick" if quick else "100M", partial(bar.update, 1))


def weightings(quick: bool) -> list[dict]:
    """Measures the weightings, from Gramian to weights."""
    sizes = SIZES[:2] if quick else SIZES
    with tqdm(total=len(sizes) * len(names()), unit="case", desc="weightings") as bar:
        return measure_weightings(sizes, partial(bar.update, 1))


def evaluations(quick: bool) -> list[dict]:
    """Measures the evaluation with all subsets of the modalities."""
    from bench.measure.evaluation import measure_evaluation  # brings MONAI, which a machine with a GPU may lack

    return _each("evaluation", measure_evaluation, QUICK_STEPS if quick else EVALUATIONS)


def sequence_steps(quick: bool) -> list[dict]:
    """Measures a whole training step on the transformer of Dynamic Sharing."""
    return _each("transformer's step", measure_sequence_step, QUICK_SEQUENCE_STEPS if quick else SEQUENCE_STEPS)


def cggm_steps(quick: bool) -> list[dict]:
    """Measures what CGGM adds to a step of joint training."""
    return _each("cggm", measure_cggm, QUICK_SEQUENCE_STEPS if quick else CGGM_STEPS)


def nnunet_steps(quick: bool) -> list[dict]:
    """Measures a step of nnU-Net's trainers, its own and ours."""
    return _each("nnU-Net", nnunet.measure_nnunet, QUICK_NNUNET_STEPS if quick else NNUNET_STEPS)


def shares(quick: bool) -> list[dict]:
    """Measures what sharing a network costs, and what a lone sample gains from convolutions made for it."""
    setting = QUICK_SHARE if quick else SHARE
    with tqdm(total=SHARE_CASES * setting["rounds"], unit="round", desc="share") as bar:
        return measure_share(**setting, on_round=partial(bar.update, 1))


def strip_mlps(quick: bool) -> list[dict]:
    """Measures Strip-MLP with its strip layers as dense products and as published."""
    with tqdm(total=5, unit="case", desc="strip_mlp") as bar:
        return measure_strip_mlp(**(QUICK_STRIP_MLP if quick else STRIP_MLP), on_round=partial(bar.update, 1))


def several_processes(quick: bool) -> list[dict]:
    """Measures a step of 1, 2 and 4 processes, with surgery on each one's batch and on all of them."""
    setting = QUICK_PROCESSES if quick else SEVERAL_PROCESSES
    with tqdm(total=len(PROCESSES), unit="case", desc="processes") as bar:
        return measure_processes(**setting, on_round=partial(bar.update, 1))


def _each(name: str, measure_one: Callable[..., list[dict]], settings: Sequence[dict]) -> list[dict]:
    """Returns the rows of one setting after the other, under one bar of all their rounds."""
    rows = []
    with tqdm(total=sum(setting["rounds"] for setting in settings), unit="round") as bar:
        for setting in settings:
            sizes = (f"{key} {value}" for key, value in setting.items() if key != "rounds")
            bar.set_description(", ".join([name, *sizes]))
            rows += measure_one(**setting, on_round=partial(bar.update, 1))
    return rows


PARTS = (
    Part("surgery", surgeries, (surgery_markdown, memory_markdown, kernels_markdown), targets.verdicts),
    Part("step", steps, (step_markdown,), targets.step_verdicts),
    Part("step_methods", step_methods, (step_methods_markdown,), targets.step_methods_verdicts),
    Part("norm", norms, (norm_markdown,), targets.norm_verdicts),
    Part("norm_host", norm_hosts, (norm_host_markdown,), norm_host_verdicts),
    Part("owm", owms, (owm_markdown,), targets.owm_verdicts),
    Part("sketch", sketches, (sketch_markdown,), targets.sketch_verdicts),
    Part("one_gradient", one_gradients, (one_gradient_markdown,), targets.one_gradient_verdicts),
    Part("weightings", weightings, (weightings_markdown,), targets.weightings_verdicts),
    Part("evaluation", evaluations, (evaluation_markdown,), targets.evaluation_verdicts),
    Part("sequence_step", sequence_steps, (sequence_step_markdown,), targets.sequence_step_verdicts),
    Part("cggm", cggm_steps, (cggm_markdown,), targets.cggm_verdicts),
    Part("nnunet", nnunet_steps, (nnunet_markdown,), targets.nnunet_verdicts, nnunet.lacking),
    Part("share", shares, (share_markdown,), targets.share_verdicts),
    Part("processes", several_processes, (processes_markdown,), targets.processes_verdicts),
    Part("strip_mlp", strip_mlps, (strip_mlp_markdown,), targets.strip_mlp_verdicts),
)
