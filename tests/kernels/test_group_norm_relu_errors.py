"""What group_norm_relu and its ops say of malformed arguments, and of which backend serves them."""

import sys
import warnings
from types import SimpleNamespace

import pytest
import torch

import gmd_kernels as gk
from gmd_kernels import dispatch, reference

GPU = SimpleNamespace(device=torch.device("cuda", 0))  # what dispatch looks at, of a tensor on one
X, TABLE, ROWS = torch.zeros(2, 4, 3), torch.zeros(3, 4), torch.zeros(2, dtype=torch.int64)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": [1.0]}, TypeError, r"x: expected float32, .* \[n, C, \*spatial\], got list"),
        ({"x": X.int()}, TypeError, r"x: expected float32, .*, got \[2, 4, 3\] torch.int32 on cpu"),
        ({"x": torch.zeros(4)}, TypeError, r"x: expected .*, got \[4\] torch.float32"),
        ({"x": X.to_sparse()}, TypeError, r"x: expected .*, got \[2, 4, 3\] .*sparse_coo"),
        ({"num_groups": 3}, ValueError, r"num_groups: expected a divisor of 4 channels, got 3"),
        ({"num_groups": 0}, ValueError, r"num_groups: expected a divisor of 4 channels, got 0"),
        ({"num_groups": 2.0}, ValueError, r"num_groups: expected a divisor of 4 channels, got 2.0"),
        ({"weight": TABLE.double()}, TypeError, r"weight: expected torch.float32 or x's torch.float32, got .*float64"),
        ({"weight": None}, TypeError, r"weight: expected .*, got NoneType"),
        ({"weight": TABLE[0]}, ValueError, r"weight: expected \[R, C\] = \[R, 4\] on cpu as x, got \[4\]"),
        ({"weight": TABLE.to("meta")}, ValueError, r"weight: expected .* on cpu as x, got .* on meta"),
        ({"bias": TABLE[:, 1:]}, ValueError, r"bias: expected \[R, C\] = \[R, 4\] on cpu as x, got \[3, 3\]"),
        ({"bias": TABLE[1:]}, ValueError, r"bias: expected \[3, 4\] as weight, got \[2, 4\]"),
        ({"bias": TABLE.half()}, TypeError, r"bias: expected torch.float32 or x's torch.float32, got .*float16"),
        ({"rows": None}, ValueError, r"rows: expected \[n\] = \[2\] int64 where weight has 3 rows, got None"),
        ({"rows": [0, 1]}, ValueError, r"rows: expected int64 \[n\] = \[2\], got list"),
        ({"rows": ROWS.int()}, ValueError, r"rows: expected int64 \[n\] = \[2\], got \[2\] torch.int32"),
        ({"rows": ROWS[:1]}, ValueError, r"rows: expected int64 \[n\] = \[2\], got \[1\]"),
        ({"rows": ROWS.to("meta")}, ValueError, r"rows: expected on cpu as x, got \[2\] torch.int64 on meta"),
        ({"rows": torch.tensor([0, 3])}, ValueError, r"rows\[1\]: expected 0 to 2, got 3"),
        ({"rows": torch.tensor([-1, 0])}, ValueError, r"rows\[0\]: expected 0 to 2, got -1"),
        ({"eps": -1.0}, ValueError, r"eps: expected a number of at least 0, got -1.0"),
        ({"eps": torch.nan}, ValueError, r"eps: expected a number of at least 0, got nan"),
        ({"eps": "1e-5"}, ValueError, r"eps: expected a number of at least 0, got '1e-5'"),
    ],
)
def test_errors_name_the_argument(change: dict, error: type[Exception], message: str):
    arguments = {"x": X, "weight": TABLE, "bias": TABLE, "num_groups": 2, "rows": ROWS} | change
    with pytest.raises(error, match=message):
        gk.group_norm_relu(**arguments)


def test_the_op_checks_what_it_is_given():
    with pytest.raises(ValueError, match=r"rows\[1\]: expected 0 to 2, got 3"):
        torch.ops.gmd.group_norm_relu(X, TABLE, TABLE, torch.tensor([0, 3]), 2, 1e-5)
    with pytest.raises(ValueError, match=r"num_groups: expected a divisor of 4 channels, got 3"):
        torch.ops.gmd.group_norm_relu(X, TABLE, TABLE, ROWS, 3, 1e-5)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("name", ["weight", "bias"])
def test_the_op_widens_no_table(monkeypatch: pytest.MonkeyPatch, backend: str, name: str):
    monkeypatch.setenv("GMD_BACKEND", backend)
    tables = {"weight": TABLE, "bias": TABLE} | {name: TABLE.bfloat16()}
    with pytest.raises(TypeError, match=rf"{name}: expected torch.float32, the type of the statistics, got .*bfloat16"):
        torch.ops.gmd.group_norm_relu(X.bfloat16(), *tables.values(), ROWS, 2, 1e-5)
    assert gk.group_norm_relu(X.bfloat16(), **tables, num_groups=2, rows=ROWS).dtype is torch.bfloat16


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"grad": X[:, 1:]}, ValueError, r"grad: expected \[2, 4, 3\] torch.float32 on cpu, .*, got \[2, 3, 3\]"),
        ({"grad": X.bfloat16()}, ValueError, r"grad: expected .* torch.float32 on cpu, .*, got .* torch.bfloat16"),
        ({"grad": X.to("meta")}, ValueError, r"grad: expected .* on cpu, .*, got .* on meta"),
        ({"grad": X.to_sparse()}, ValueError, r"grad: expected .* strided, got .* sparse_coo"),
        ({"weight": TABLE.double()}, TypeError, r"weight: expected torch.float32 or x's torch.float32, got .*float64"),
        ({"bias": TABLE[1:]}, ValueError, r"bias: expected \[3, 4\] as weight, got \[2, 4\]"),
        ({"rows": torch.tensor([0, 10**9])}, ValueError, r"rows\[1\]: expected 0 to 2, got 1000000000"),
        ({"rows": torch.tensor([0, -1])}, ValueError, r"rows\[1\]: expected 0 to 2, got -1"),
        ({"rows": ROWS[:1]}, ValueError, r"rows: expected int64 \[n\] = \[2\], got \[1\]"),
        ({"mean": torch.zeros(2)}, ValueError, r"mean: expected \[n, G\], got \[2\]"),
        ({"mean": torch.zeros(2, 3)}, ValueError, r"num_groups: expected a divisor of 4 channels, got 3"),
        ({"mean": torch.zeros(1, 2)}, ValueError, r"mean: expected \[2, 2\] torch.float32 .*, got \[1, 2\]"),
        ({"mean": torch.zeros(2, 2).half()}, ValueError, r"mean: expected .* torch.float32 .*, got .* torch.float16"),
        ({"rstd": torch.zeros(2, 1)}, ValueError, r"rstd: expected \[2, 2\] torch.float32 .*, got \[2, 1\]"),
        ({"rstd": torch.zeros(2, 2).double()}, ValueError, r"rstd: expected .*float32 .*, got .*float64"),
    ],
)
def test_the_backward_op_checks_what_it_is_given(change: dict, error: type[Exception], message: str):
    """Before anything is read: a row that there is not would be memory of somebody else's."""
    statistics = torch.zeros(2, 2)
    arguments = {
        "grad": X,
        "x": X,
        "weight": TABLE,
        "bias": TABLE,
        "rows": ROWS,
        "mean": statistics,
        "rstd": statistics,
    }
    with pytest.raises(error, match=message):
        torch.ops.gmd.group_norm_relu_backward(*(arguments | change).values(), True)


# Backends


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch):
    """A machine with a GPU that CUDA C++ and Triton serve, as far as dispatch can see: {backend: its module}."""
    modules = {name: SimpleNamespace(why_not=lambda device: None) for name in ("cuda", "triton")}
    there = gk.Backend(True, "is there")
    for name in modules:
        monkeypatch.setitem(dispatch._KERNELS, name, dispatch._KERNELS[name]._replace(find=lambda: there))
    loaded = {f"gmd_kernels.{name}_ops": module for name, module in modules.items()} | {reference.__name__: reference}
    monkeypatch.setattr(dispatch, "_load", loaded.get)
    monkeypatch.delenv("GMD_BACKEND", raising=False)
    dispatch._why_not_gpu.cache_clear()
    yield modules
    dispatch._why_not_gpu.cache_clear()


@pytest.mark.parametrize("forced", [None, "cuda", "triton"])
def test_on_a_gpu_cuda_serves_unless_triton_is_asked_for(gpu, monkeypatch: pytest.MonkeyPatch, forced: str | None):
    if forced:
        monkeypatch.setenv("GMD_BACKEND", forced)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert dispatch.choose_for_norm(GPU) is gpu[forced or "cuda"]


def test_without_a_compiler_triton_serves_and_says_so(gpu, monkeypatch: pytest.MonkeyPatch):
    gpu["cuda"].why_not = lambda device: "not built"
    with pytest.warns(gk.FallbackWarning, match="through the Triton kernels: the CUDA .* not available: not built"):
        assert dispatch.choose_for_norm(GPU) is gpu["triton"]
    monkeypatch.setenv("GMD_BACKEND", "cuda")
    with pytest.raises(RuntimeError, match=r"GMD_BACKEND=cuda cannot serve this call: .* not built"):
        dispatch.choose_for_norm(GPU)


def test_without_both_the_reference_serves_and_says_so(gpu):
    for module in gpu.values():
        module.why_not = lambda device: "it is too old"
    with pytest.warns(gk.FallbackWarning, match="goes through the slow PyTorch reference: .* it is too old"):
        assert dispatch.choose_for_norm(GPU) is reference


@pytest.mark.parametrize("required", [False, True])
def test_the_warning_is_for_the_line_that_called(monkeypatch: pytest.MonkeyPatch, required: bool):
    """And comes once, whether there will be gradients or not."""
    monkeypatch.delenv("GMD_BACKEND", raising=False)
    missing = dispatch._KERNELS["cpu"]._replace(find=lambda: gk.Backend(False, "not built"))
    monkeypatch.setitem(dispatch._KERNELS, "cpu", missing)
    monkeypatch.setattr(sys.modules[gk.group_norm_relu.__module__], "_C", None)
    weight = TABLE.clone().requires_grad_(required)
    with pytest.warns(gk.FallbackWarning, match="slow PyTorch reference: .* not built") as warned:
        gk.group_norm_relu(X, weight, TABLE, 2, ROWS)
    assert [warning.filename for warning in warned] == [__file__]


def test_messages_speak_of_tensors(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("GMD_BACKEND", raising=False)
    with pytest.warns(gk.FallbackWarning, match="there are no kernels for xpu tensors"):
        dispatch.choose_for_norm(SimpleNamespace(device=torch.device("xpu")))
    monkeypatch.setenv("GMD_BACKEND", "cpu")
    with pytest.raises(RuntimeError, match="are for tensors on the CPU, not on cuda:0"):
        dispatch.choose_for_norm(GPU)


def test_forced_backends_that_do_not_serve_the_device(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GMD_BACKEND", "cuda")
    with pytest.raises(RuntimeError, match="GMD_BACKEND=cuda cannot serve this call: the CUDA kernels are"):
        gk.group_norm_relu(X, TABLE, TABLE, 2, ROWS)
    monkeypatch.setenv("GMD_BACKEND", "reference")
    assert dispatch.choose_for_norm(GPU) is reference
