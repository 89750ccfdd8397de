"""A whole `python -m gpu` on a clock and with stages that are made up: these hang, die, are killed, write too much.

Nothing sleeps: whoever waits moves the clock on.
"""

import io
import random
import signal
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from gpu import __main__ as make_gpu
from gpu import plan, stages
from gpu.stages import ENDS, OK, OUT_OF_TIME, UNSUPPORTED
from helpers.gpu_run import BEGINNING, FIRST, SECOND, WITHOUT_BUILD, statuses

FOREVER = float("inf")
PROBING = 7.0  # seconds that looking for a GPU takes


@dataclass
class Fake:
    """What a stage does."""

    seconds: float  # until it ends by itself
    code: int = 0
    words: str = "working\n"
    files: tuple[str, ...] = ()  # which it leaves behind at once
    closing: float = 1.0  # seconds that it takes to end when it is interrupted
    deaf_to: tuple[int, ...] = ()  # signals
    heeds_its_end: bool = False  # the benchmarks begin nothing that would not be done by then


@dataclass
class World:
    """The clock, and the processes in it; stands in for subprocess.Popen, Thread and os.killpg."""

    folder: Path
    names: dict[tuple[str, ...], str]  # of the stages, by their commands
    fakes: dict[str, Fake]
    now: float = 1000.0
    ran: list[str] = field(default_factory=list)
    spans: dict[str, float] = field(default_factory=dict)  # seconds that a stage has had, its end included
    last: "Process | None" = None

    def monotonic(self):
        return self.now

    def capability(self):
        self.now += PROBING
        return "9.0"

    def start(self, command, env, **streams):
        name = self.names[tuple(command)]
        self.ran.append(name)
        self.last = Process(self, name, self.fakes[name], float(env[ENDS]))
        return self.last

    def killpg(self, pid, kind):
        assert pid == self.last.pid
        if self.last.is_over():
            raise ProcessLookupError
        self.last.send_signal(kind)


class Process:
    def __init__(self, world, name, fake, end):
        self.world, self.name, self.fake, self.pid = world, name, fake, 1000 + len(world.ran)
        self.code, self.begin = fake.code, world.now
        self.ends = world.now + fake.seconds
        if fake.heeds_its_end:
            self.ends = min(self.ends, end - 1)
        self.stdout = io.BytesIO(fake.words.encode())
        for path in fake.files:
            (world.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (world.folder / path).write_text("what is there counts")

    def is_over(self):
        return self.world.now >= self.ends

    def wait(self, timeout):
        until = self.world.now + timeout
        self.world.now = max(self.world.now, min(until, self.ends))
        self.world.spans[self.name] = self.world.now - self.begin
        if not self.is_over():
            raise subprocess.TimeoutExpired(self.name, timeout)
        return self.code

    def send_signal(self, kind):
        if not self.is_over() and kind not in self.fake.deaf_to:
            self.ends, self.code = self.world.now + (self.fake.closing if kind == signal.SIGINT else 0), -kind


class Reader:
    """A thread that has read all at once; of a process that does not end, it goes on waiting for more."""

    def __init__(self, world, target, args, daemon):
        self.world, self.read = world, lambda: target(*args)

    def start(self):
        self.read()

    def join(self, timeout):
        if not self.world.last.is_over():
            self.world.now += timeout


# What the stages take by estimate, the build being done by 16 cores; and the files that they leave.
USUAL = {
    "environment": Fake(5),
    "build": Fake(70, files=("built/0123456789abcdef/_C.cpython-312-x86_64-linux-gnu.so",)),
    "every_kernel": Fake(14),
    "ours": Fake(25, files=("surgery_gpu.csv",)),
    "ncu": Fake(35, files=("ncu.csv",)),
    "other_kernels": Fake(9),
    "cuda_tests": Fake(40),
    "racecheck_few": Fake(15),
    "memcheck_few": Fake(12),
    "benchmark": Fake(150, files=("surgery_gpu.csv",), heeds_its_end=True),
    "backends": Fake(12),
    "other_tests": Fake(66),
    "step": Fake(44, files=("step_gpu.csv",)),
    "norm": Fake(40, files=("norm_gpu.csv",), heeds_its_end=True),
    "weightings": Fake(30, files=("weightings_gpu.csv",), heeds_its_end=True),
    "memcheck": Fake(16),
    "racecheck": Fake(16),
    "triton_tests": Fake(100),
    "triton_bench": Fake(80, files=("surgery_gpu.csv",), heeds_its_end=True),
}
UNDYING = Fake(FOREVER, deaf_to=(signal.SIGINT, signal.SIGTERM, signal.SIGKILL))  # it hangs in the driver
DEAF = replace(UNDYING, deaf_to=(signal.SIGINT, signal.SIGTERM))
HANGS = Fake(FOREVER, closing=2)


@pytest.fixture
def dry(tmp_path, monkeypatch):
    """Runs a part in a world of its own. Returns the exit status and the world."""
    monkeypatch.setattr(plan, "WHEELS", tmp_path / "no_wheels")
    monkeypatch.chdir(tmp_path)
    count = iter(range(10_000))

    def run(part, **changed):
        folder = tmp_path / f"out{next(count)}"
        commands = {tuple(map(str, stage.command)): stage.name for stage in plan.stages(folder, part)}
        world = World(folder, commands, USUAL | changed)
        assert len(world.names) == len(plan.stages(folder, part))
        monkeypatch.setattr(make_gpu, "_capability", world.capability)
        monkeypatch.setattr(make_gpu, "monotonic", world.monotonic)
        monkeypatch.setattr(stages, "monotonic", world.monotonic)
        monkeypatch.setattr(stages.subprocess, "Popen", world.start)
        monkeypatch.setattr(stages.os, "killpg", world.killpg)
        monkeypatch.setattr(stages, "Thread", lambda target, args, daemon: Reader(world, target, args, daemon))
        begin = world.now
        status = make_gpu.main([str(folder), *(["--part", str(part)] if part else [])])
        assert world.now - begin <= plan.seconds(part), f"part {part} took {world.now - begin:.0f} s"
        return status, world

    return run


def files(world):
    return sorted(path.relative_to(world.folder).as_posix() for path in world.folder.rglob("*") if path.is_file())


ORDER = {1: BEGINNING + FIRST, 2: BEGINNING + SECOND, None: BEGINNING + FIRST + SECOND}
LIMITS = {1: 270, 2: 450, None: 720}


@pytest.mark.parametrize("part", ORDER)
def test_at_the_usual_speed_everything_is_run_in_its_order(dry, part):
    assert plan.seconds(part) == LIMITS[part]
    status, world = dry(part)
    assert status == 0
    assert world.ran == ORDER[part]
    assert statuses(world.folder) == dict.fromkeys(ORDER[part], OK)
    assert len(files(world)) <= stages.MOST_FILES
    log = (world.folder / "log.txt").read_text()
    assert log.count("working") == len(world.ran)
    assert log.index("=== environment, after 0 s of") < log.index("=== all, ")


def test_a_build_that_takes_longer_leaves_enough_for_the_first_measurements(dry):
    _, world = dry(1, build=Fake(90))
    assert statuses(world.folder)["ours"] == OK
    assert world.spans["ncu"] >= 28


def test_a_carried_module_leaves_its_time_to_the_others(dry):
    status, world = dry(2, build=Fake(3), other_tests=Fake(120))
    assert status == 0
    assert world.spans["benchmark"] > 110


@pytest.mark.parametrize("part", ORDER)
@pytest.mark.parametrize("fake", [UNDYING, DEAF, HANGS], ids=["undying", "deaf", "hangs"])
@pytest.mark.parametrize("from_which", range(0, 16, 3))
def test_where_every_stage_hangs_a_part_still_ends_in_time(dry, part, fake, from_which):
    hanging = dict.fromkeys([*ORDER[part], *WITHOUT_BUILD][from_which:], fake)
    status, world = dry(part, **hanging)
    assert status == int(any(name in hanging for name in world.ran))
    assert world.ran[0] == "environment"


def test_a_stage_that_hangs_costs_the_others_no_more_than_its_limit_and_its_end(dry):
    kept = {name: Fake(seconds) for name, seconds in (("cuda_tests", 29), ("racecheck_few", 11), ("memcheck_few", 11))}
    _, world = dry(1, ncu=replace(HANGS, files=("ncu.csv",)), **kept)
    found = statuses(world.folder)
    assert found["ncu"].startswith("failed: stopped after ")
    assert [name for name, status in found.items() if status != OK] == ["ncu"]
    assert "ncu.csv" in files(world)  # as far as it came


DEATHS = {
    "killed": (Fake(9, code=-9), "failed: ended by SIGKILL; somebody killed it, for want of main memory perhaps"),
    "killed under a shell": (Fake(9, code=137), "failed: ended by SIGKILL; somebody killed it, for want of main"),
    "crashed": (Fake(9, code=-11), "failed: ended by SIGSEGV"),
    "no room on the GPU": (
        Fake(9, code=1, words="torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n"),
        "failed: exit status 1; the GPU has too little memory left; end what else uses it (nvidia-smi names it)",
    ),
    "an old driver": (
        Fake(3, code=1, words="RuntimeError: The NVIDIA driver on your system is too old (found version 11040).\n"),
        "failed: exit status 1; NVIDIA's driver is older than this torch needs; update it",
    ),
    "fails": (Fake(5, code=3), "failed: exit status 3"),
}


@pytest.mark.parametrize("death", DEATHS)
@pytest.mark.parametrize("name", ["ours", "cuda_tests", "racecheck_few"])
def test_a_stage_that_dies_says_what_it_lacks_and_the_others_go_on(dry, death, name):
    fake, told = DEATHS[death]
    status, world = dry(1, **{name: replace(fake, files=USUAL[name].files)})
    assert status == 1
    assert world.ran == ORDER[1]
    found = statuses(world.folder)
    assert found.pop(name).startswith(told)
    assert set(found.values()) == {OK}
    assert set(files(world)) == {"log.txt", "ncu.csv", "surgery_gpu.csv", *USUAL["build"].files}


COMPILER = "gmd_kernels: the CUDA kernels cannot be built, as GMD_FORCE_CUDA=1 asks for: "
COMPILER += "no C++ compiler (c++) was found; install one, g++ for instance\n"


@pytest.mark.parametrize("part", ORDER)
def test_without_a_compiler_tritons_kernels_are_tested_and_measured(dry, part):
    status, world = dry(part, build=Fake(8, code=1, words=COMPILER))
    assert status == 1
    assert world.ran == ["environment", "build", *WITHOUT_BUILD]
    found = statuses(world.folder)
    told = "failed: exit status 1; no C++ compiler (c++) was found; install one, g++ for instance"
    assert found["build"] == told
    assert files(world) == ["log.txt", "surgery_gpu.csv"]


def test_a_tool_that_cannot_work_here_is_no_failure_and_says_why(dry):
    words = "did not work here: ==ERROR== ERR_NVGPUCTRPERM; run all as root, or let everybody read the counters\n"
    status, world = dry(1, ncu=Fake(4, code=77, words=words))
    assert status == 0
    told = "; ==ERROR== ERR_NVGPUCTRPERM; run all as root, or let everybody read the counters"
    assert statuses(world.folder)["ncu"] == UNSUPPORTED + told


def test_more_files_than_come_back_are_a_failure(dry):
    status, world = dry(2, step=replace(USUAL["step"], files=tuple(f"rows{k}.csv" for k in range(8))))
    assert status == 1
    assert set(statuses(world.folder).values()) == {OK}
    assert f"files in {world.folder}, 8 are allowed" in (world.folder / "log.txt").read_text()


def test_a_wrong_kernel_ends_the_first_part_early(dry):
    _, world = dry(1, every_kernel=Fake(10, code=1))
    assert world.ran == [*BEGINNING, "other_kernels"]
    assert world.now - 1000 < 130


def test_a_wrong_kernel_of_a_weighting_keeps_nothing_from_being_measured(dry):
    status, world = dry(1, other_kernels=Fake(6, code=1))
    assert status == 1
    assert world.ran == ORDER[1]


def anything(rng):
    """A stage that does whatever one may do."""
    kind = rng.choice(["well", "well", "slow", "fails", "dies", "hangs", "deaf", "undying", "unsupported"])
    seconds = rng.choice([0.1, 3, 20, 60, 200])
    return {
        "well": Fake(seconds),
        "slow": Fake(10 * seconds, closing=rng.uniform(0, 20)),
        "fails": Fake(seconds, code=1),
        "dies": Fake(seconds, code=-11),
        "hangs": replace(HANGS, closing=rng.uniform(0, 20)),
        "deaf": DEAF,
        "undying": UNDYING,
        "unsupported": Fake(seconds, code=77),
    }[kind]


@pytest.mark.parametrize("part", ORDER)
def test_whatever_the_stages_do_their_part_ends_in_time_and_each_is_judged(dry, part):
    for seed in range(40):
        rng = random.Random(seed)
        status, world = dry(part, **{name: anything(rng) for name in USUAL})
        found = statuses(world.folder)
        assert status == int(any(not words.startswith((OK, UNSUPPORTED)) for words in found.values()))
        every = plan.stages(world.folder, part)
        assert list(found) == [stage.name for stage in every if not stage.instead_of or found["build"] != OK]
        for stage in every:
            ran = stage.name in world.ran
            if stage.name in found:
                words = found[stage.name]
                assert ran == (not words.startswith("not run")), (stage.name, words)
                assert ran or words in (OUT_OF_TIME, f"not run: it needs {stage.needs}")
            if ran:
                assert world.spans[stage.name] <= max(stage.limit, stage.most) + sum(stages.GRACES.values())
                assert not stage.needs or found[stage.needs] == OK
