"""The CUDA kernels of the weightings in the emulator: what the torch form finds, and what each method promises."""

import functools
import os
import re
import subprocess
import sys

import pytest
import torch

import gmd_kernels as gk
from gmd_kernels import dispatch, quadratic, weightings
from gmd_kernels.weightings import _fairgrad, _gramians, _options, _projections
from helpers import cuda_emulator as emulator
from helpers import emulated_weightings as kernels
from helpers.gramians import KINDS, distance, make_gram, make_jacobian
from helpers.places import ROOT

pytestmark = [
    pytest.mark.skipif(emulator.why_not() is not None, reason=str(emulator.why_not())),
    pytest.mark.usefixtures("one_thread"),
]

SIZES = [*range(1, 17), 31, 33, 64]  # around 8 and 32, where there are more threads
DONE_BY_KERNELS = {
    "imtl_g": weightings.imtl_g,
    "config": weightings.config,
    **{
        f"aligned_mtl, {mode}": functools.partial(weightings.aligned_mtl, scale_mode=mode)
        for mode in ("min", "median", "rmse")
    },
    "mgda": weightings.mgda,
    "nash_mtl": weightings.nash_mtl,
    "nash_mtl, max_norm": functools.partial(weightings.nash_mtl, max_norm=1.0),
    "upgrad": weightings.upgrad,
    "dualproj": weightings.dualproj,
    **{f"cagrad, c={c}": functools.partial(weightings.cagrad, c=c) for c in (0, 0.05, 0.4, 2.0)},
    "pcd": weightings.pcd,
    **{f"fairgrad, alpha={a}": functools.partial(weightings.fairgrad, alpha=a) for a in (0.25, 1.0, 8.0)},
}
every_weighting = pytest.mark.parametrize("name", DONE_BY_KERNELS)


@pytest.fixture(autouse=True)
def same_threads_every_time():
    emulator.seed(0)


@pytest.fixture
def by_kernels(monkeypatch):
    """Returns a weighting done by the kernels; outside of it the torch form stays."""

    def call(weighting, *arguments, **options):
        with monkeypatch.context() as patch:
            patch.setattr(dispatch, "choose_for_weighting", lambda gram: kernels)
            return weighting(*arguments, **options)

    return call


def check(by_kernels, name, kind, num_objectives):
    """As near to the torch form as that is to itself on the CPU, where other methods solve the same programs."""
    jacobian = make_jacobian(num_objectives, kind)
    gram = jacobian @ jacobian.T
    expected = DONE_BY_KERNELS[name](gram)
    # eigenvectors of the Gramian of gradients of unlike lengths, and weights that nearly cancel
    tolerance = {"collinear": 1e-7, "lengths": 1e-7}.get(kind, 1e-9)
    assert distance(jacobian, by_kernels(DONE_BY_KERNELS[name], gram), expected) <= tolerance


@every_weighting
def test_weights_are_those_of_the_torch_form(by_kernels, name):
    for num_objectives in (1, 2, 3, 7, 8):
        for kind in KINDS:
            check(by_kernels, name, kind, num_objectives)


@pytest.mark.slow
@every_weighting
def test_weights_are_those_of_the_torch_form_at_every_number_of_objectives(by_kernels, name):
    for num_objectives in SIZES:
        if name == "upgrad" and num_objectives == 64:  # 64 programs, half a minute
            continue
        check(by_kernels, name, KINDS[num_objectives % len(KINDS)], num_objectives)


@pytest.mark.slow
def test_upgrad_of_64_objectives(by_kernels):
    check(by_kernels, "upgrad", "conflicting", 64)


@every_weighting
def test_the_order_of_threads_does_not_matter(by_kernels, name):
    """To the bit: where a barrier is missing, some order shows it."""
    for num_objectives in (5, 9):
        gram, found = make_gram(num_objectives, "conflicting"), []
        for seed in range(3):  # each of the ways to draw who goes on
            emulator.seed(seed)
            found.append(by_kernels(DONE_BY_KERNELS[name], gram))
        assert all(torch.equal(weights, found[0]) for weights in found)


@every_weighting
def test_many_gramians_of_any_strides_are_one_by_one(by_kernels, name):
    grams = torch.stack([make_gram(4, kind, seed) for seed in range(2) for kind in [*KINDS, "dependent"]])
    grams[3] = 0
    grams[5, 1, 2] = torch.nan
    weights = by_kernels(DONE_BY_KERNELS[name], grams.reshape(2, 5, 4, 4).transpose(0, 1)).transpose(0, 1)
    for gram, found in zip(grams, weights.reshape(10, 4), strict=True):
        torch.testing.assert_close(found, by_kernels(DONE_BY_KERNELS[name], gram), rtol=0, atol=0, equal_nan=True)
    assert weights[1, 0].isnan().all()
    assert weights.isnan().sum() == 4
    assert by_kernels(DONE_BY_KERNELS[name], grams[:0]).shape == (0, 4)


def test_known_solutions(by_kernels):
    """Two gradients of lengths 1 and 2 at a right angle, and two of lengths 1 with a cosine of -1/2."""
    right = torch.tensor([[1.0, 0.0], [0.0, 4.0]], dtype=torch.float64)
    wide = torch.tensor([[1.0, -0.5], [-0.5, 1.0]], dtype=torch.float64)
    known = [
        (weightings.mgda, right, [0.8, 0.2]),
        (weightings.nash_mtl, right, [1.0, 0.5]),
        (weightings.imtl_g, right, [2 / 3, 1 / 3]),
        (weightings.aligned_mtl, right, [0.5, 0.25]),
        (weightings.config, right, [1.5, 0.75]),
        (weightings.dualproj, right, [0.5, 0.5]),
        (weightings.upgrad, wide, [0.75, 0.75]),  # each gains half of the other
        (weightings.nash_mtl, wide, [2**0.5, 2**0.5]),
        (weightings.fairgrad, wide, [2**0.5, 2**0.5]),
        (weightings.cagrad, wide, [0.7, 0.7]),  # the mean and 0.4 of it
    ]
    for weighting, gram, expected in known:
        weights = by_kernels(weighting, gram)
        assert torch.allclose(weights, torch.tensor(expected, dtype=torch.float64), rtol=1e-9), weighting


@pytest.mark.parametrize("num_objectives", [15, pytest.param(64, marks=pytest.mark.slow)])
def test_what_takes_more_steps_than_the_torch_form_makes_is_solved(by_kernels, num_objectives):
    """Off the CPU that takes 22 or 32 steps whatever comes out; pivoting, on the CPU, is exact."""
    jacobian = make_jacobian(num_objectives, "collinear")
    gram, tau = jacobian @ jacobian.T, torch.linspace(0, 0.3, num_objectives, dtype=torch.float64)
    options = {"primary": num_objectives - 1, "tau": tau}
    expected = weightings.pcd(gram, **options)
    assert (expected[:-1] > 0).any(), "this test would see nothing"
    assert distance(jacobian, by_kernels(weightings.pcd, gram, **options), expected) <= 1e-9


# What is updated in place


def test_pcd_keeps_its_averages(by_kernels):
    ours, theirs = (torch.zeros(3, 2, 5, dtype=torch.float64) for _ in range(2))
    wide = torch.zeros(3, 2, 7, dtype=torch.float64)
    for step in range(3):
        grams = torch.stack([make_gram(5, kind, step) for kind in KINDS[:3]])
        grams[1, 2, 2] = torch.nan if step == 1 else grams[1, 2, 2]
        tau = torch.linspace(0, 0.1, 5, dtype=torch.float64)
        found = [by_kernels(weightings.pcd, grams, 2, tau, state) for state in (ours, wide[..., 1:-1])]
        expected = weightings.pcd(grams, 2, tau, theirs)
        assert torch.allclose(found[0], expected, rtol=1e-9, equal_nan=True)
        assert torch.equal(found[0].nan_to_num(), found[1].nan_to_num())
        assert torch.allclose(ours, theirs, rtol=1e-14)
    assert torch.equal(wide[..., 1:-1], ours)
    assert not wide[..., 0].any()
    assert not wide[..., -1].any()


@pytest.mark.parametrize("num_objectives", [1, 2, 7, 16, pytest.param(64, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", [*KINDS, "dependent"])
def test_gradvac_and_its_averages(by_kernels, monkeypatch, num_objectives, kind):
    order = gk.projection_order(num_objectives, torch.Generator().manual_seed(0), num_groups=2)
    monkeypatch.setattr(_projections, "projection_order", lambda *_: order)
    start = torch.rand(2, num_objectives, num_objectives, dtype=torch.float64) * 1.6 - 0.8
    ours, theirs = start.clone(), start.clone()
    grams = torch.stack([make_gram(num_objectives, kind, seed) for seed in range(2)])
    if num_objectives == 7:
        grams[0, 3] = grams[0, :, 3] = 0
    for beta in (0.1, 0.7):
        found = by_kernels(weightings.gradvac, grams, ours, beta)
        assert torch.allclose(found, weightings.gradvac(grams, theirs, beta), rtol=1e-9)
        assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-12)
    grams[0, 0, 0] = torch.inf
    before = ours.clone()
    found = by_kernels(weightings.gradvac, grams, ours)
    assert found[0].isnan().all()
    assert found[1].isfinite().all()
    assert torch.equal(ours[0], before[0])


# All that the torch form is tested for

OWN = "test_weights_that_cancel_are_scaled_down_and_keep_their_direction"  # by another bound, which kernels do not have


@pytest.mark.slow
def test_the_tests_of_the_torch_form_pass_with_the_kernels_in_its_place():
    files = ["test_weightings", "test_weightings_edges", "test_weighting_pcd", "test_weighting_fairgrad"]
    paths = [f"tests/kernels/{name}.py" for name in [*files, "test_weightings_by_length"]]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "helpers.weightings_by_kernels", "-p", "no:cacheprovider"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    skipped = ["-k", f"not {OWN}", "-m", "not slow"]
    done = subprocess.run([*command, *skipped, *paths], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


# Launches


class Counting:
    """In the kernels' place: counts the launches that each makes, and hands back weights of any value."""

    def __init__(self):
        self.launches = 0

    def __getattr__(self, name):
        def launch(gram, *_, **__):
            self.launches += 2 if name == "upgrad" else 1
            return gram[..., 0]

        return launch


class Ops(torch.utils._python_dispatch.TorchDispatchMode):
    """Counts torch's ops that would be launches on a GPU: all but views and empty tensors."""

    NO_LAUNCH = re.compile(
        r"alias|as_strided|detach|diagonal|expand|permute|select|slice|split(_with_sizes)?|squeeze|t|transpose|unbind|"
        r"unsqueeze|(_unsafe_)?view|_reshape_alias|(new_)?empty|empty_like|empty_strided"
    )

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += self.NO_LAUNCH.fullmatch(func.overloadpacket.__name__) is None
        return func(*args, **(kwargs or {}))


# with the kernels, at most
LAUNCHES = {
    "imtl_g": 1,
    "config": 1,
    "aligned_mtl, min": 2,  # the preference is another
    "mgda": 1,
    "nash_mtl": 1,
    "nash_mtl, max_norm": 1,
    "upgrad": 3,
    "dualproj": 2,
    "cagrad, c=0.4": 1,
    "pcd": 1,
    "fairgrad, alpha=1.0": 1,
    "gradvac": 6,  # five of them draw the order
}


@pytest.mark.parametrize("name", LAUNCHES)
def test_launches(name, monkeypatch):
    """Counted on the CPU: torch's ops without what it would look up there, and one for each launch of a kernel."""
    gram = make_gram(8, "conflicting")
    averages = torch.zeros_like(gram)
    weighting = functools.partial(weightings.gradvac, cosines=averages) if name == "gradvac" else DONE_BY_KERNELS[name]
    for module in (quadratic, _fairgrad, _options):
        monkeypatch.setattr(module, "is_readable", lambda _: False)
    for module in map(sys.modules.get, {weightings.imtl_g.__module__, weightings.config.__module__}):
        monkeypatch.setattr(module, "eigh", quadratic._jacobi)
    with Ops() as in_torch:
        weighting(gram)
    assert in_torch.count >= 150, "this test would see nothing"
    counting = Counting()
    monkeypatch.setattr(_gramians, "is_traced", lambda _: False)
    monkeypatch.setattr(dispatch, "choose_for_weighting", lambda _: counting)
    with Ops() as beside:
        weighting(gram)
    assert beside.count + counting.launches <= LAUNCHES[name]
