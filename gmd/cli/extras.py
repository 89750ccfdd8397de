"""The packages that parts of gmd need beyond torch, which of them are missing, and how to get them. Needs no torch."""

import shlex
import warnings
from collections.abc import Sequence
from importlib import util

# extra -> {module as Python imports it: package as pip installs it}; pyproject.toml has the same, a test compares
EXTRAS = {
    "train": {
        "numpy": "numpy",
        "scipy": "scipy>=1.15",
        "nibabel": "nibabel",
        "monai": "monai>=1.4",
        "tqdm": "tqdm",
        "tyro": "tyro>=0.9",
        "matplotlib": "matplotlib",
        "sklearn": "scikit-learn",
        "tensorboard": "tensorboard",
        "torchmetrics": "torchmetrics>=1.4",
        "yaml": "pyyaml",
        "safetensors": "safetensors",
        "jinja2": "jinja2",
        "PIL": "pillow",
        "typeguard": "typeguard>=4",
        "einops": "einops",
        "soundfile": "soundfile",
        "h5py": "h5py>=3.8",
    },
    "brats": {"brats_evaluation": "BraTS-evaluation>=0.0.10", "panoptica": "panoptica>=2.1"},
    "bench": {"torchjd": "torchjd>=0.8", "pandas": "pandas", "matplotlib": "matplotlib", "tqdm": "tqdm"},
}


def missing(extra: str) -> list[str]:
    """Returns those packages of an extra that are not installed, as pip calls them."""
    return [package for module, package in EXTRAS[extra].items() if util.find_spec(module) is None]


def advice(packages: Sequence[str]) -> str:
    """Returns the command that installs packages. It names them all: on indexes `gmd` is somebody else's package."""
    return f"pip install {shlex.join(packages)}"


def quiet_without_numpy() -> None:
    """Silences torch, which warns when it is loaded if numpy is missing: whatever needs numpy says so by itself."""
    if util.find_spec("numpy") is None:
        warnings.filterwarnings("ignore", "Failed to initialize NumPy", UserWarning)
