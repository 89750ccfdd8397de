"""Which backend serves a call: forced ones, fallbacks with their reasons, and what is told of each."""

import subprocess
import sys
from importlib import util
from types import SimpleNamespace

import pytest
import torch

import gmd_kernels as gk
from gmd.cli import doctor
from gmd_kernels import dispatch, gradients, reference

GRADS = [[torch.ones(3)], [-torch.ones(3)]]
GPU = torch.device("cuda", 0)


def on_a_gpu(dtype=torch.float32):
    """What `choose` looks at, of gradients that a machine without a GPU cannot have."""
    return gradients.Gradients([[None]], GPU, frozenset({dtype}), [1], native=object())


@pytest.fixture
def machine(monkeypatch):
    """A machine with a GPU, as far as dispatch can see: name -> the reason why a backend is missing, or None."""
    missing = {"cuda": None, "triton": None}
    modules = {name: SimpleNamespace(DTYPES=frozenset({torch.float32, torch.float64})) for name in missing}
    monkeypatch.delenv("GMD_BACKEND", raising=False)
    for name in missing:

        def find(name=name):
            return gk.Backend(missing[name] is None, missing[name] or "is there")

        kernels = dispatch._KERNELS[name]
        modules[kernels.module] = modules[name]
        modules[name].why_not = lambda device, name=name: missing[name] if name == "cuda" else None
        monkeypatch.setitem(dispatch._KERNELS, name, kernels._replace(find=find))
    monkeypatch.setattr(dispatch, "_load", lambda name: modules.get(name, reference))
    dispatch._why_not_gpu.cache_clear()
    yield SimpleNamespace(missing=missing, modules=modules)
    dispatch._why_not_gpu.cache_clear()


def test_a_gpu_is_served_by_cuda_without_a_word(machine):
    assert dispatch.choose(on_a_gpu()) is machine.modules["cuda"]
    assert dispatch.choose_for_gram(SimpleNamespace(device=GPU)) is machine.modules["cuda"]


def test_without_cuda_triton_serves_and_the_reason_is_told(machine):
    machine.missing["cuda"] = "built without nvcc"
    with pytest.warns(gk.FallbackWarning, match=r"goes through the Triton kernels: the CUDA kernels .*without nvcc"):
        assert dispatch.choose(on_a_gpu()) is machine.modules["triton"]
    with pytest.warns(gk.FallbackWarning, match=r"goes through the Triton kernels"):
        assert dispatch.choose_for_gram(SimpleNamespace(device=GPU)) is machine.modules["triton"]


def test_without_both_the_reference_serves_and_both_reasons_are_told(machine):
    machine.missing.update(cuda="built without nvcc", triton="triton is not installed")
    with pytest.warns(gk.FallbackWarning, match=r"slow PyTorch reference: .*without nvcc; .*triton is not installed"):
        assert dispatch.choose(on_a_gpu()) is reference


def test_weightings_are_cudas_or_torchs_and_a_fallback_is_told(machine, monkeypatch):
    gram = SimpleNamespace(device=GPU)
    assert dispatch.choose_for_weighting(gram) is machine.modules["cuda"]
    assert dispatch.choose_for_weighting(SimpleNamespace(device=torch.device("cpu"))) is None
    for other in ("triton", "reference"):  # they leave weightings to torch
        monkeypatch.setenv("GMD_BACKEND", other)
        assert dispatch.choose_for_weighting(gram) is None
    machine.missing["cuda"] = "built without nvcc"
    dispatch._why_not_gpu.cache_clear()
    monkeypatch.setenv("GMD_BACKEND", "cuda")
    with pytest.raises(RuntimeError, match=r"GMD_BACKEND=cuda cannot serve this call: the CUDA kernels .*without nvcc"):
        dispatch.choose_for_weighting(gram)
    monkeypatch.delenv("GMD_BACKEND")
    with pytest.warns(gk.FallbackWarning, match=r"slow PyTorch reference: the CUDA kernels .*without nvcc"):
        assert dispatch.choose_for_weighting(gram) is None


def test_a_device_that_cuda_does_not_serve(machine):
    machine.modules["cuda"].why_not = lambda device: f"{device} has compute capability 6.1"
    with pytest.warns(gk.FallbackWarning, match=r"Triton kernels: the CUDA kernels .*: cuda:0 has .* 6\.1"):
        assert dispatch.choose(on_a_gpu()) is machine.modules["triton"]


def test_other_gpus_are_left_alone(machine):
    """To ask one takes memory on it, and may fail for reasons that are none of this call's."""
    asked = []
    machine.modules["cuda"].why_not = lambda device: asked.append(device)
    dispatch.choose(on_a_gpu())
    assert asked == [GPU]


def test_a_module_that_is_there_but_does_not_load(machine, monkeypatch):
    def load(name):
        if name.endswith("cuda_ops"):
            raise ImportError("libcudart.so.13: cannot open shared object file")
        return machine.modules[name]

    monkeypatch.setattr(dispatch, "_load", load)
    with pytest.warns(gk.FallbackWarning, match=r"gmd_kernels\.cuda_ops does not load: libcudart\.so\.13"):
        assert dispatch.choose(on_a_gpu()) is machine.modules["triton"]


def test_a_type_that_no_kernel_serves(machine):
    with pytest.warns(
        gk.FallbackWarning, match=r"reference: the CUDA kernels serve .*float16; the Triton kernels serve"
    ):
        assert dispatch.choose(on_a_gpu(torch.float16)) is reference


def test_a_device_that_there_is_nothing_for(monkeypatch):
    monkeypatch.delenv("GMD_BACKEND", raising=False)
    gram = torch.eye(2, dtype=torch.float64, device="meta")
    with pytest.warns(gk.FallbackWarning, match=r"slow PyTorch reference: there are no kernels for meta gradients"):
        assert dispatch.choose_for_gram(gram) is reference


@pytest.mark.parametrize("name", ["cuda", "triton"])
def test_a_forced_backend_is_taken_without_a_word(machine, monkeypatch, name):
    monkeypatch.setenv("GMD_BACKEND", name)
    assert dispatch.choose(on_a_gpu()) is machine.modules[name]
    machine.missing[name] = "it is gone"
    dispatch._why_not_gpu.cache_clear()
    with pytest.raises(RuntimeError, match=rf"GMD_BACKEND={name} cannot serve this call: .* not available: it is gone"):
        dispatch.choose(on_a_gpu())


def test_forced_backends_that_do_not_serve_the_device(machine, monkeypatch):
    monkeypatch.setenv("GMD_BACKEND", "cpu")
    with pytest.raises(RuntimeError, match=r"GMD_BACKEND=cpu .*: the C\+\+ kernels are for .* the CPU, not on cuda:0"):
        dispatch.choose(on_a_gpu())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU in this machine")
def test_cuda_without_a_gpu(monkeypatch):
    monkeypatch.setenv("GMD_BACKEND", "cuda")
    with pytest.raises(
        RuntimeError, match=r"GMD_BACKEND=cuda .*CUDA kernels are not available: no GPU in this machine"
    ):
        gk.gram(GRADS)


def test_the_cpu_is_served_by_cpp_even_where_triton_could(monkeypatch):
    monkeypatch.delenv("GMD_BACKEND", raising=False)
    assert dispatch.choose(gradients.read(GRADS)).__name__ == "gmd_kernels.cpu_ops"


# What is told


@pytest.mark.parametrize("gpu", [False, True])
def test_the_doctor_misses_kernels_for_a_gpu_only_where_there_is_one(monkeypatch, capsys, gpu):
    there = dict.fromkeys(("cpu", "triton", "reference"), gk.Backend(True, "is there"))
    monkeypatch.setattr(gk, "backends", lambda: {"cuda": gk.Backend(False, "not built"), **there})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(doctor, "_gpus", lambda: "a GPU")
    assert doctor.main() == gpu
    assert ("  MISSING cuda: not built" if gpu else "  -       cuda: not built") in capsys.readouterr().out


def python(code: str, **environment: str) -> str:
    code = f"import os; os.environ.pop('TRITON_INTERPRET', None); os.environ.update({environment}); {code}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_triton_is_not_imported_before_it_is_needed():
    code = "import sys, torch; before = 'triton' in sys.modules; import gmd_kernels as gk; gk.backends();"
    code += "gk.gram([[torch.ones(2)]]); print(before, 'triton' in sys.modules)"
    assert python(code) == "False False\n"


needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU in this machine")
needs_triton = pytest.mark.skipif(util.find_spec("triton") is None, reason="triton is not installed")


@needs_no_gpu
def test_what_is_missing_without_a_gpu():
    out = python("import gmd_kernels as gk; [print(name, *found) for name, found in gk.backends().items()]")
    cuda, cpu, triton, plain = out.splitlines()
    assert cuda == "cuda False no GPU in this machine"
    assert cpu.startswith("cpu True C++ kernels for gradients on the CPU (")
    assert triton.startswith("triton False ")
    assert plain == "reference True plain PyTorch, any device and floating type"


@needs_no_gpu
def test_triton_that_is_not_installed():
    hide = "import importlib.util as u; u.find_spec = lambda name: None;"
    out = python(hide + " import gmd_kernels as gk; print(*gk.backends()['triton'])")
    assert out == "False triton is not installed; torch's packages for GPUs bring it\n"


@needs_triton
@needs_no_gpu
def test_triton_on_the_cpu_needs_its_interpreter():
    code = "import gmd_kernels as gk, torch\ntry: gk.gram([[torch.ones(2)]])\nexcept RuntimeError as e: print(e)"
    expected = "GMD_BACKEND=triton cannot serve this call: the Triton kernels are not available: no GPU in this machine"
    assert python(code.replace("\n", "\n"), GMD_BACKEND="triton").startswith(expected)


@pytest.mark.slow
@needs_triton
def test_triton_in_its_interpreter():
    code = "import gmd_kernels as gk, torch; print(*gk.backends()['triton']); print(gk.gram([[torch.ones(2)]]).item())"
    told, value = python(code, GMD_BACKEND="triton", TRITON_INTERPRET="1").splitlines()
    assert told.startswith("True Triton 3.")
    assert told.endswith("in its interpreter, for tests on the CPU with GMD_BACKEND=triton")
    assert value == "2.0"
