"""How many threads a command takes, and how they wait: what the machine allows, what is chosen, what is said of it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gmd import threads
from gmd.cli import doctor
from gmd.threads import SHORT_SPIN, SLEEP, Machine, Quota, about_count, about_waiting, busy_cpus, quota, settings
from helpers.places import ROOT

V1 = "36 32 0:31 {origin} {point} rw,nosuid shared:15 - cgroup cgroup rw,cpu,cpuacct"
V2 = "30 24 0:26 {origin} {point} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
OTHER_V1 = "37 32 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
MINE = "0::/box/mine\n"


def write(root: Path, files: dict[str, str]) -> Path:
    """A file system of Linux's own files, as the kernel shows them. Returns its root."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def tree(root: Path, groups: str, mounts: list[str], quotas: dict[str, str]) -> Path:
    return write(root, {"proc/self/cgroup": groups, "proc/self/mountinfo": "\n".join(mounts) + "\n"} | quotas)


def v2(origin: str = "/", point: str = "/sys/fs/cgroup") -> str:
    return V2.format(origin=origin, point=point)


def v1(origin: str = "/", point: str = "/sys/fs/cgroup/cpu") -> str:
    return V1.format(origin=origin, point=point)


V1_TWO = {"cpu.cfs_quota_us": "200000\n", "cpu.cfs_period_us": "100000\n"}
V1_NONE = {"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"}


def inside(folder: str, files: dict[str, str]) -> dict[str, str]:
    return {f"{folder}/{name}": text for name, text in files.items()}


# What control groups allow: kind -> (own groups, mounts, files, the CPUs of the quota)
QUOTAS = {
    "of its own group": (MINE, [v2()], {"sys/fs/cgroup/box/mine/cpu.max": "150000 100000\n"}, 1.5),
    "of a group around it": (
        MINE,
        [v2()],
        {"sys/fs/cgroup/box/mine/cpu.max": "max 100000\n", "sys/fs/cgroup/box/cpu.max": "400000 100000\n"},
        4.0,
    ),
    "the smaller of two": (
        MINE,
        [v2()],
        {"sys/fs/cgroup/box/mine/cpu.max": "300000 100000\n", "sys/fs/cgroup/box/cpu.max": "50000 100000\n"},
        0.5,
    ),
    "none": (MINE, [v2()], {"sys/fs/cgroup/box/mine/cpu.max": "max 100000\n"}, None),
    "of somebody else": (MINE, [v2()], {"sys/fs/cgroup/other/cpu.max": "100000 100000\n"}, None),
    "in a container that sees its own group as the root": (
        "0::/\n",
        [v2()],
        {"sys/fs/cgroup/cpu.max": "200000 100000\n"},
        2.0,
    ),
    "in a container that sees its name outside": (
        "0::/docker/abc/inner\n",
        [v2("/docker/abc")],
        {"sys/fs/cgroup/inner/cpu.max": "max 100000\n", "sys/fs/cgroup/cpu.max": "250000 100000\n"},
        2.5,
    ),
    "in a container that was moved out of what it sees": (
        "0::/../../box\n",
        [v2()],
        {"sys/fs/cgroup/cpu.max": "100000 100000\n"},
        1.0,
    ),
    "of the first version": ("4:cpu,cpuacct:/mine\n", [v1()], inside("sys/fs/cgroup/cpu/mine", V1_TWO), 2.0),
    "of the first version, in a container": (
        "4:cpu,cpuacct:/docker/abc\n",
        [OTHER_V1, v1("/docker/abc")],
        inside("sys/fs/cgroup/cpu", V1_TWO),
        2.0,
    ),
    "of the first version, none": ("4:cpu:/mine\n", [v1()], inside("sys/fs/cgroup/cpu/mine", V1_NONE), None),
    "of the first version, beside the second": (
        "4:cpu:/mine\n0::/\n",
        [v1(), v2(point="/sys/fs/cgroup/unified")],
        inside("sys/fs/cgroup/cpu/mine", V1_TWO),
        2.0,
    ),
    "of CPU sets, which is another thing": (
        "3:cpuset:/mine\n",
        [v1()],
        inside("sys/fs/cgroup/cpu/mine", V1_TWO),
        None,
    ),
    "mounted where the path has a blank": (
        "0::/\n",
        [v2(point="/my\\040groups")],
        {"my groups/cpu.max": "100000 50000\n"},
        2.0,
    ),
    "in a file that says something else": (MINE, [v2()], {"sys/fs/cgroup/box/mine/cpu.max": "plenty\n"}, None),
    "where Linux tells nothing": ("", [], {}, None),
}


@pytest.mark.parametrize("kind", QUOTAS)
def test_the_quota_of_the_control_groups(tmp_path: Path, kind: str):
    groups, mounts, files, expected = QUOTAS[kind]
    found = quota(tree(tmp_path, groups, mounts, files))
    assert (found and found.cpus) == expected
    if found is not None:
        assert found.file.lstrip("/") in files


def test_a_system_without_control_groups_has_no_quota(tmp_path: Path):
    assert quota(tmp_path / "nothing here") is None


@pytest.mark.parametrize(("cpus", "expected"), [(0.25, 1), (1.0, 1), (1.5, 2), (2.0, 2), (3.9, 4), (4.0, 4), (16.0, 4)])
def test_a_quota_is_rounded_up_and_is_no_more_than_the_cores(cpus: float, expected: int):
    assert Machine(64, 8, 4, Quota(cpus, "cpu.max")).threads == expected


def test_two_cpus_of_one_core_are_one_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 5}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    siblings = {0: "0,4", 1: "1,5", 2: "2,6", 5: "1,5"}
    name = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    write(tmp_path, {name.format(cpu): text + "\n" for cpu, text in siblings.items()})
    assert threads.machine(tmp_path) == Machine(8, 4, 3, None)


# What others do at the moment

STAT = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 {} 0 0 {} {} 0 0 0 0 0\ncpu1 {} 0 5 {} 0 0 0 {} 0 0\nintr 1 2\n"


@pytest.mark.parametrize(
    ("after", "allowed", "expected"),
    [
        ((100, 110, 100, 100, 110, 100), {0, 1}, 0),
        ((110, 100, 100, 100, 110, 100), {0, 1}, 1),
        ((105, 105, 100, 100, 100, 110), {0, 1}, 2),  # half of the time; stolen by another virtual machine is busy too
        ((104, 106, 100, 104, 106, 100), {0, 1}, 0),  # a little on each
        ((100, 100, 110, 110, 100, 100), {0, 1}, 1),  # waiting for a disk is not
        ((110, 100, 100, 100, 110, 100), {1}, 0),  # on a CPU that is not ours
        ((100, 100, 100, 100, 100, 100), {0, 1}, 0),  # no tick in between
    ],
)
def test_how_many_cpus_others_keep_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: tuple, allowed: set, expected: int
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: allowed, raising=False)
    write(tmp_path, {"proc/stat": STAT.format(*[100] * 6)})
    monkeypatch.setattr(time, "sleep", lambda _: write(tmp_path, {"proc/stat": STAT.format(*after)}))
    assert busy_cpus(tmp_path) == expected


def test_where_linux_tells_nothing_nobody_is_busy(tmp_path: Path):
    assert busy_cpus(tmp_path, seconds=0) == 0


# What is chosen

HERE = Machine(64, 8, 4, None)
LIMITED = Machine(64, 8, 4, Quota(1.5, "/sys/fs/cgroup/cpu.max"))


@pytest.mark.parametrize(
    ("machine", "busy", "environment", "expected"),
    [
        (HERE, 0, {}, SHORT_SPIN),
        (HERE, 4, {}, SHORT_SPIN),  # there is room for all
        (HERE, 5, {}, SLEEP),
        (Machine(2, 2, 2, None), 0, {}, SHORT_SPIN),
        (Machine(2, 2, 2, None), 1, {}, SLEEP),
        (HERE, 1, {"OMP_NUM_THREADS": "8"}, SLEEP),
        (HERE, 6, {"OMP_NUM_THREADS": "2"}, SHORT_SPIN),
        (LIMITED, 0, {}, {"OMP_NUM_THREADS": "2"} | SHORT_SPIN),
        (LIMITED, 0, {"OMP_NUM_THREADS": "3"}, SHORT_SPIN),
        (LIMITED, 0, {"OMP_NUM_THREADS": ""}, {"OMP_NUM_THREADS": "2"} | SHORT_SPIN),
        # what OpenMP takes, and what it ignores
        (LIMITED, 0, {"OMP_NUM_THREADS": " 4,2"}, SHORT_SPIN),
        *((LIMITED, 0, {"OMP_NUM_THREADS": n}, {"OMP_NUM_THREADS": "2"} | SHORT_SPIN) for n in ("0", "-1", "all")),
        (HERE, 5, {"OMP_NUM_THREADS": "3, 1"}, SHORT_SPIN),
        (HERE, 5, {"OMP_NUM_THREADS": "9" * 5000}, SLEEP),
        (LIMITED, 0, {"MKL_NUM_THREADS": "1"}, SHORT_SPIN),
        (LIMITED, 8, {"OMP_THREAD_LIMIT": "1", "GOMP_SPINCOUNT": "7"}, {}),
        (HERE, 8, {"OMP_WAIT_POLICY": "active"}, {}),
        (HERE, 0, {"KMP_BLOCKTIME": "0"}, {}),
    ],
)
def test_what_is_chosen(machine: Machine, busy: int, environment: dict, expected: dict):
    assert settings(machine, environment, busy) == expected


# In place of torch: tells what OpenMP would read when torch is loaded, and ends the process.
TELLS = """
import json, os
from gmd.threads import COUNT, WAITING
print(json.dumps({name: os.environ[name] for name in COUNT + WAITING if name in os.environ}), flush=True)
os._exit(0)
"""
CHOICES = (SHORT_SPIN, SLEEP)  # it depends on who is busy here at the moment


def read_by_openmp(folder: Path, *arguments: str, **variables: str) -> dict[str, str]:
    """The variables of threads in a process of Python when it loads torch; those given were set before."""
    write(folder, {"torch.py": TELLS})
    unset = {*threads.COUNT, *threads.WAITING}
    environment = {name: value for name, value in os.environ.items() if name not in unset} | variables
    environment["PYTHONPATH"] = os.pathsep.join([str(folder), str(ROOT)])
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


ARITHMETIC = "bench.tables.processes_model"  # loads no torch
BENCHES = sorted(
    {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "bench").rglob("*.py")
        if "__main__" in path.read_text(encoding="utf-8")
    }
    - {ARITHMETIC}
)


@pytest.mark.parametrize("command", [["gmd", "doctor"], ["gmd", "phantom", "x"], ["gmd", "train", "brats"]], ids=str)
def test_a_command_chooses_before_torch_is_loaded(tmp_path: Path, command: list[str]):
    assert read_by_openmp(tmp_path, "-m", *command) in CHOICES


@pytest.mark.parametrize("module", BENCHES)
def test_a_benchmark_chooses_before_torch_is_loaded(tmp_path: Path, module: str):
    assert {"bench.run", "bench.contention", "bench.measure.study"} <= set(BENCHES)
    assert read_by_openmp(tmp_path, "-m", module) in CHOICES


def test_what_the_user_has_set_stays(tmp_path: Path):
    given = {"OMP_WAIT_POLICY": "active", "OMP_NUM_THREADS": "2"}
    assert read_by_openmp(tmp_path, "-m", "gmd", "doctor", **given) == given


@pytest.mark.parametrize("code", ["import gmd; gmd.GMD", "import gmd_kernels", "import gmd.threads, torch"])
def test_a_plain_import_chooses_nothing(tmp_path: Path, code: str):
    assert read_by_openmp(tmp_path, "-c", code) == {}


def test_after_torch_it_is_too_late():
    before = dict(os.environ)
    threads.choose()
    assert dict(os.environ) == before


def test_torch_takes_no_more_threads_than_the_quota():
    unset = {*threads.COUNT, *threads.WAITING}
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    quota_of_less_than_one = "threads.quota = lambda root: threads.Quota(0.7, 'cpu.max')"
    code = f"from gmd import threads; {quota_of_less_than_one}; threads.choose(); import torch as t"
    code += "; print(t.get_num_threads())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True)
    assert done.stdout == b"1\n"


# What is said


def test_the_doctor_says_how_many_threads_and_why(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(threads, "chosen", {})
    assert about_count(4, HERE, {}) == "4 threads: affinity allows 8 of 64 CPUs (4 cores), no quota"
    said = about_count(8, LIMITED, {"OMP_NUM_THREADS": "8"})
    assert "the quota is 1.5 CPUs (/sys/fs/cgroup/cpu.max)" in said
    assert "your environment says OMP_NUM_THREADS=8" in said
    assert said.endswith("More than 2 hold each other up: set OMP_NUM_THREADS to that or less")
    monkeypatch.setattr(threads, "chosen", {"OMP_NUM_THREADS": "2"})
    assert "your environment" not in about_count(2, LIMITED, {"OMP_NUM_THREADS": "2"})


def test_the_doctor_says_who_has_chosen_how_they_wait(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(threads, "chosen", {})
    assert about_waiting(1, {}) == "one thread waits for no other"
    assert "as OpenMP comes" in about_waiting(2, {})
    assert about_waiting(2, SLEEP) == "they wait as OMP_WAIT_POLICY=passive says, of your environment"
    monkeypatch.setattr(threads, "chosen", SHORT_SPIN)
    assert about_waiting(2, SHORT_SPIN).endswith("GOMP_SPINCOUNT=10000 KMP_BLOCKTIME=1 says, chosen by gmd")


def test_the_doctor_says_which_library_runs_the_threads(tmp_path: Path):
    line = "7f00-7f01 r-xp 00000000 00:1c 7 /x/torch/lib/{}\n"
    maps = tmp_path / "maps"
    maps.write_text(
        line.format("libgomp-a34b3233.so.1") * 2 + line.format("libomptarget.so") + line.format("libc.so.6")
    )
    assert doctor.openmp_runtimes(maps) == "OpenMP by libgomp-a34b3233.so.1"
    maps.write_text(line.format("libiomp5.so") + line.format("libgomp.so.1"))
    assert doctor.openmp_runtimes(maps) == "OpenMP by libgomp.so.1 and libiomp5.so"
    maps.write_text(line.format("libc.so.6"))
    assert doctor.openmp_runtimes(maps) == "torch has loaded no OpenMP library"
    assert "does not tell" in doctor.openmp_runtimes(tmp_path / "not there")


def test_the_doctor_prints_it_with_what_to_set_in_programs_of_ones_own(capsys: pytest.CaptureFixture):
    doctor.main()
    printed = capsys.readouterr().out
    assert "a program of your own sets this before it loads torch: export " in printed
    assert "affinity allows" in printed
    assert "of these CPUs busy at present" in printed
