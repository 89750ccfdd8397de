"""What the figures were measured on: the same columns in every row."""

import os
import platform
import re
import subprocess
from datetime import datetime, timezone
from importlib import util
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import gmd_kernels as gk
from gmd import threads

ROOT = Path(__file__).resolve().parents[2]
UNKNOWN = "unknown"
LONGEST_QUERY = 20.0  # seconds


def host_columns() -> dict[str, object]:
    """Returns CPU, cores, threads, instruction sets of kernels, torch and bfloat16, versions, commit, date (UTC)."""
    return {
        "cpu": _cpu_model(),
        "cores": threads.machine().cpus,
        "threads": torch.get_num_threads(),
        "isa": gk.backends()["cpu"].reason.rpartition("(")[2].rstrip(")"),
        "torch_isa": torch.backends.cpu.get_cpu_capability(),
        "bfloat16": _bfloat16(),
        **_software("torchjd"),
    }


def system_columns() -> dict[str, object]:
    """Returns system, CPU, cores, commit and date (UTC), for what is measured in other environments than this one."""
    found = _software()
    del found["torch"]
    return {"system": platform.platform(), "cpu": _cpu_model(), "cores": threads.machine().cpus, **found}


def gpu_columns() -> dict[str, object]:
    """Returns card, driver, versions, commit and date (UTC) for the current GPU."""
    card = torch.cuda.get_device_properties()
    return {
        "gpu": card.name,
        "gpu_MB": round(card.total_memory / 1e6),
        "multiprocessors": card.multi_processor_count,
        "L2_MB": round(card.L2_cache_size / 1e6),
        "driver": _driver(),
        "cuda": torch.version.cuda,
        "caches": "flushed before each call",
        **_software("triton", "torchjd"),
    }


def _driver() -> str:
    """Returns the version of NVIDIA's driver; "unknown" where nvidia-smi is missing, fails, or does not answer."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=True, timeout=LONGEST_QUERY)
    except (OSError, subprocess.SubprocessError):
        return UNKNOWN
    return done.stdout.strip() or UNKNOWN


def _software(*packages: str) -> dict[str, str]:
    """Returns the versions of torch and of `packages`, the commit, the date."""
    versions = {name: _version(name) for name in packages}
    now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M")
    return {"torch": torch.__version__, **versions, "commit": _commit(), "date": now}


def _version(package: str) -> str:
    if util.find_spec(package) is None:
        return "not installed"
    try:
        return version(package)
    except PackageNotFoundError:  # there without metadata of its own, as part of another package for instance
        return UNKNOWN


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    found = (
        re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(encoding="utf-8"), re.M) if cpuinfo.exists() else None
    )
    return found[1] if found else platform.processor() or platform.machine()


def _bfloat16() -> str:
    """Returns the instructions that this processor has for products of bfloat16."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text(encoding="utf-8").split()) if cpuinfo.exists() else set()
    return next((flag for flag in ("amx_bf16", "avx512_bf16", "bf16") if flag in flags), "none")


def _commit() -> str:
    """Returns the short hash, "+dirty" if a tracked file differs; outside a git checkout GMD_COMMIT, or "unknown"."""
    try:
        commit = _git("rev-parse", "--short", "HEAD")
        return commit + ("+dirty" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):  # no git, or no repository
        return os.environ.get("GMD_COMMIT", UNKNOWN)


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()
