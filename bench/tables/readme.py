"""`python -m bench.tables.readme`: the tables of the committed results, into README.md and docs/."""

import re
from pathlib import Path

import pandas as pd

from bench.measure import numerics
from bench.measure.files import RESULTS
from bench.measure.host import ROOT
from bench.tables import classify as classify_tables
from bench.tables import evidence_page
from bench.tables import sentiment as sentiment_tables
from bench.tables import study as study_tables
from bench.tables.advice import advice_csv, findings_csv
from bench.tables.collectives import collectives_markdown
from bench.tables.compat import compat_section
from bench.tables.contention import contention_markdown
from bench.tables.directions import directions_markdown
from bench.tables.evaluation import evaluation_markdown
from bench.tables.evidence import advice_rows
from bench.tables.images import images_markdown
from bench.tables.manifest_loader import manifest_loader_markdown
from bench.tables.methods import methods_markdown, which_markdown
from bench.tables.nnunet import nnunet_markdown
from bench.tables.norm import norm_markdown
from bench.tables.norm_host import norm_host_markdown
from bench.tables.owm import owm_markdown
from bench.tables.processes import processes_markdown
from bench.tables.processes_model import processes_model_markdown
from bench.tables.results import read_results
from bench.tables.roofline import roofline_markdown
from bench.tables.sequences import cggm_markdown, sequence_step_markdown
from bench.tables.share import share_markdown
from bench.tables.sketch import one_gradient_markdown, sketch_markdown
from bench.tables.step import step_markdown, step_methods_markdown
from bench.tables.strip_mlp import strip_mlp_markdown
from bench.tables.surgery import gpu_markdown, kernels_markdown, memory_markdown, surgery_markdown
from bench.tables.weightings import gpu_weightings_markdown, weightings_markdown
from gmd.files import replacing
from gmd.printing import say

README, ROOFLINE = ROOT / "README.md", ROOT / "bench" / "ROOFLINE.md"
DEMO, BENCHMARK, STEP = (ROOT / "docs" / f"{name}.md" for name in ("demo", "benchmark", "step"))
NUMERICS, METHODS, STUDY, SENTIMENT = (
    ROOT / "docs" / f"{name}.md" for name in ("numerics", "methods", "study", "sentiment")
)
IMAGES, CLASSIFY, PROCESSES = (ROOT / "docs" / f"{name}.md" for name in ("images", "classify", "processes"))
EVIDENCE, COMPATIBILITY = (ROOT / "docs" / f"{name}.md" for name in ("evidence", "compatibility"))
ADVICE = ROOT / "gmd" / "advice" / "evidence.csv"
DEMO_TABLE = ROOT / "docs" / "demo" / "table.md"


def tables() -> dict[Path, dict[str, str]]:
    """Returns each file's generated tables by name, from the results as they are."""
    surgery = read_results(RESULTS / "surgery_cpu.csv")
    study, mfeat, mosi, digits = (
        read_results(RESULTS / f"{name}.csv") for name in ("study", "mfeat", "mosi", "digits")
    )
    return {
        README: {
            "demo": demo_sentence(pd.read_csv(DEMO_TABLE.with_suffix(".csv"))),
            "surgery table": surgery_markdown(surgery),
            "methods table": methods_markdown(study, mfeat, mosi, digits),
        },
        DEMO: {"demo table": DEMO_TABLE.read_text(encoding="utf-8")},
        BENCHMARK: {
            "memory table": memory_markdown(surgery),
            "kernels table": kernels_markdown(surgery),
            "weightings table": weightings_markdown(read_results(RESULTS / "weightings_cpu.csv")),
            "share table": share_markdown(read_results(RESULTS / "share_cpu.csv")),
            "contention": contention_section(RESULTS),
            "gpu": gpu_section(RESULTS),
            "norm host table": norm_host_markdown(read_results(RESULTS / "norm_host_cpu.csv")),
        },
        STEP: step_sections(RESULTS),
        NUMERICS: {"numerics table": numerics.markdown(read_results(RESULTS / "numerics_cpu.csv"))},
        METHODS: {"which one": which_markdown(study, mfeat, mosi)},
        STUDY: study_tables.sections(study, mfeat, mosi),
        SENTIMENT: sentiment_sections(mosi, digits),
        CLASSIFY: classify_sections(RESULTS),
        IMAGES: images_sections(RESULTS),
        PROCESSES: processes_sections(RESULTS),
        EVIDENCE: evidence_page.sections(RESULTS),
        COMPATIBILITY: {"compat table": compat_section(RESULTS)},
        ROOFLINE: {"expected": roofline_section(RESULTS)},
    }


def advice_section(results: Path) -> str:
    """What `gmd advise` quotes: the evidence, and until it has been measured the studies that came before."""
    if found := advice_rows(results):
        return findings_csv(found)
    return advice_csv(*(read_results(results / f"{name}.csv") for name in ("study", "mfeat", "mosi")))


def demo_sentence(demo: pd.DataFrame) -> str:
    """Returns the README's sentence on the picture: WT with all modalities, on average, and with the worst subset."""
    scores = demo.set_index("subset")["WT"]
    singles = scores[scores.index.intersection(demo.columns.drop("mean"))]
    full = max(scores.index, key=lambda subset: subset.count("+"))
    return (
        f"Dice of the whole tumour, mean over {demo['cases'].iloc[0]:.0f} phantoms that the network had not seen: "
        f"{scores[full]:.2f} from all {len(singles)}\nmodalities, {scores['mean']:.2f} in the mean of the "
        f"{len(scores) - 1} subsets, {singles.min():.2f} from `{singles.idxmin()}` alone."
    )


def sentiment_sections(mosi: pd.DataFrame, digits: pd.DataFrame) -> dict[str, str]:
    """Scores on real data, and what a step of each method costs."""
    steps, cggm, owm = (read_results(RESULTS / f"{name}_cpu.csv") for name in ("sequence_step", "cggm", "owm"))
    costs = {
        "sequence step table": sequence_step_markdown(steps),
        "cggm table": cggm_markdown(cggm),
        "owm table": owm_markdown(owm),
    }
    return sentiment_tables.sections(mosi, digits) | costs


NO_GPU = """\
No GPU could be had so far: no figure of one is shown here, and nothing has run on one yet. What the tests verify
without one (`make test` and `make slow`): the CUDA kernels compile for sm_80, sm_90 and sm_100, where there is an nvcc,
and run in an emulator of our own; the Triton kernels compile for the same and run in Triton's interpreter. Both are
compared with float64. `make gpu OUT=dir` does the rest where there is a GPU, without a network and in twelve minutes
at most: build, tests, benchmark, counters, checks of memory and of races. It names what there was no time for."""
GPU = """\
From the same lists of gradients on the GPU. The `floor` of an op is what it must read and write, at the bandwidth of a
copy on the device in the same run: T times N elements read for `gram`, T read and one written for `combine`, both for
surgery. `make gpu OUT=dir` repeats it.

{surgery}

![Milliseconds of the surgery on a GPU](../bench/results/surgery_gpu.png)

Our kernels one by one, on the device. Surgery is one launch where no address has changed since the call before; else
one or two small ones more send the table of addresses first, which `surgery (moved)` pays for in every call. `caches
warm`: `surgery (ours)` right after another call; else the L2 cache holds nothing of the gradients at the beginning.
`of the host`: until `surgery (ours)` returns, its work being queued. Before each call the device sleeps until the host
has queued it, but 5 ms at most: in a call that takes the host longer, the gaps between launches count.

{kernels}

![Part of the floor that gram and combine reach on a GPU](../bench/results/floors_gpu.png)

{weightings}"""
GPU_WEIGHTINGS = """\
Weightings on the GPU, from Gramian to weights: microseconds, how much the device is given to do for it, kernels and
copies, and how many times as long torch's operations take there.

"""
NO_GPU_WEIGHTINGS = "The weightings were not measured on a GPU: `python -m bench.gpu.weightings` does that."


def gpu_section(results: Path) -> str:
    """Returns the figures of a GPU, or plainly that there are none."""
    csv = results / "surgery_gpu.csv"
    if not csv.exists():
        return NO_GPU
    surgery = read_results(csv)
    weighted = results / "weightings_gpu.csv"
    weightings = NO_GPU_WEIGHTINGS
    if weighted.exists():
        weightings = GPU_WEIGHTINGS + gpu_weightings_markdown(read_results(weighted))
    return GPU.format(surgery=surgery_markdown(surgery), kernels=gpu_markdown(surgery), weightings=weightings)


def roofline_section(results: Path) -> str:
    """Returns what the CUDA kernels should take, and what they took where that was measured."""
    csv = results / "surgery_gpu.csv"
    return roofline_markdown(read_results(csv) if csv.exists() else None)


def contention_section(results: Path) -> str:
    """Returns the table of a step beside busy processes, or plainly that there is none."""
    csv = results / "contention_cpu.csv"
    if not csv.exists():
        return "Not measured yet: `python -m bench.contention` does it, on a machine that is otherwise idle."
    return contention_markdown(read_results(csv))


def step_methods_section(results: Path) -> str:
    """Returns the table of a step of each method, or plainly that there is none."""
    csv = results / "step_methods_cpu.csv"
    if not csv.exists():
        return "Not measured yet: `python -m bench.run step_methods` does it, in some six minutes on an idle machine."
    return step_methods_markdown(read_results(csv))


def images_sections(results: Path) -> dict[str, str]:
    """What networks for pictures reach, and what a step of Strip-MLP costs."""
    strips = strip_mlp_markdown(read_results(results / "strip_mlp_cpu.csv"))
    return {"images table": images_section(results), "strip_mlp table": strips}


def images_section(results: Path) -> str:
    """Returns the table of networks for pictures, or plainly that there is none."""
    csv = results / "images.csv"
    if not csv.exists():
        return "Not measured yet: `python -m bench.measure.images` does it, in some ten minutes on an idle machine."
    return images_markdown(read_results(csv))


def classify_sections(results: Path) -> dict[str, str]:
    """What reading files costs, and scores on real input."""
    scores = classify_tables.sections(read_results(results / "classify.csv"))
    return {"manifest loader": manifest_loader_section(results)} | scores


def step_sections(results: Path) -> dict[str, str]:
    """What a whole step costs, and what it takes in memory."""

    def table(name: str) -> pd.DataFrame:
        return read_results(results / f"{name}.csv")

    return {
        "directions table": directions_markdown(table("directions")),
        "step table": step_markdown(table("step_cpu")),
        "step of each method": step_methods_section(results),
        "one gradient table": one_gradient_markdown(table("one_gradient_cpu")),
        "sketch table": sketch_markdown(table("sketch_cpu")),
        "norm table": norm_markdown(table("norm_cpu")),
        "nnU-Net table": nnunet_markdown(table("nnunet_cpu")),
        "evaluation table": evaluation_markdown(table("evaluation_cpu")),
    }


def processes_sections(results: Path) -> dict[str, str]:
    """What a step on several processes sends: counted, and on machines on paper."""
    counted = collectives_markdown(read_results(results / "collectives.csv"))
    measured = processes_markdown(read_results(results / "processes_cpu.csv"))
    return {"collectives table": counted, "processes model": processes_model_markdown(), "processes table": measured}


def manifest_loader_section(results: Path) -> str:
    """Returns the table of what reading files costs, or plainly that there is none."""
    csv = results / "manifest_loader_cpu.csv"
    if not csv.exists():
        return "Not measured yet: `python -m bench.measure.manifest_loader` does it, in minutes on an idle machine."
    return manifest_loader_markdown(read_results(csv))


def filled(path: Path) -> str:
    """Returns a file's text with every generated table made anew from the results."""
    text = path.read_text(encoding="utf-8")
    for name, table in tables()[path].items():
        section = f"<!-- {name} -->\n{table.strip()}\n<!-- end -->"
        pattern = rf"<!-- {name} -->\n.*?<!-- end -->"
        text, count = re.subn(pattern, section.replace("\\", r"\\"), text, flags=re.DOTALL)
        if count != 1:
            raise ValueError(f"{path.name}: expected one '<!-- {name} -->' with its '<!-- end -->', found {count}")
    return text


def write_all() -> list[Path]:
    """Puts the tables into all pages, and the evidence where `gmd advise` reads it. Returns the files."""
    for path in tables():
        text = filled(path)
        with replacing(path) as unfinished:
            unfinished.write_text(text, encoding="utf-8")
    with replacing(ADVICE) as unfinished:
        unfinished.write_text(advice_section(RESULTS), encoding="utf-8")
    return [*tables(), ADVICE]


if __name__ == "__main__":
    say(*write_all())
