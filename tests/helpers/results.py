"""What commands have written, but for times and what comes of them: to tell whether two of them did the same."""

import hashlib
import json
from pathlib import Path

import nibabel
import numpy as np
import torch
import yaml

from helpers.training_cases import without_times


def result(place: Path) -> dict[str, object]:
    found = {}
    for path in sorted(
        path for path in place.rglob("*") if path.is_file() and not path.is_relative_to(place / "cases")
    ):
        name = str(path.relative_to(place))
        if "tensorboard" not in name and path.name != "gmd_run.json":
            found[name] = _of_file(path)
    return found


def _of_file(path: Path) -> object:
    if path.name.endswith(".nii.gz"):
        image = nibabel.load(path)
        return digest(np.asanyarray(image.dataobj)), image.affine.tolist()
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return {name: digest(arrays[name]) for name in arrays}
    if path.name == "metrics.jsonl":
        return without_times(path.parent)
    if path.suffix == ".pt":
        return _of_checkpoint(torch.load(path, weights_only=True))
    if path.suffix in (".html", ".png", ".safetensors"):
        return None  # pictures and pages of the same files; weights are in the checkpoints
    if path.name == "config.yaml":
        return {
            name: value for name, value in yaml.safe_load(path.read_text()).items() if name not in ("resume", "force")
        }
    if path.suffix == ".json":
        return json.loads(path.read_text())
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _of_checkpoint(value: object) -> object:
    if isinstance(value, torch.Tensor):
        return digest(value.cpu().numpy())
    if isinstance(value, dict):
        return {key: _of_checkpoint(value[key]) for key in value if key not in ("seconds", "config")}
    return [_of_checkpoint(one) for one in value] if isinstance(value, list | tuple) else value


def digest(array: np.ndarray) -> str:
    return f"{array.dtype} {array.shape} {hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]}"
