"""What is said when driver, GPU, build and memory do not fit or a kernel fails: in one sentence, and the process goes on.

The CUDA runtime that tests/cuda_on_cpu imitates gets into each of these troubles by request (host_api.h). csrc/cuda/backend.cu is the same.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn import _C, devices, nn

EMULATED = os.environ.get("FASTNN_CUDA_EMULATED", "")
GPU = "cuda-emulated"

pytestmark = pytest.mark.skipif(not EMULATED, reason="no FASTNN_CUDA_EMULATED")


def python(code: str, **environment: str) -> list[str]:
    """What a fresh process prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def reason(**environment: str) -> str:
    """Why there is no GPU: the same sentence from is_available's neighbour, from show_config, and as an exception."""
    code = (
        "import fastnn\nassert not fastnn.cuda.is_available() and fastnn.cuda.device_count() == 0\n"
        "print(fastnn.cuda.why_not_available())\n"
        "try: fastnn.tensor([1.0], device='cuda')\nexcept fastnn.DeviceError as error: print(error)\n"
        "from fastnn.cli import main; main(['info'])\n"
        "assert (fastnn.tensor([1.0]) + 1.0).item() == 2.0"
    )
    why, raised, *info = python(code, **{"FASTNN_CUDA_LIBRARY": EMULATED, **environment})
    assert raised == why and f"{'cuda':16} not available: {why}" in info
    assert not why.endswith(".") and ". " not in why, "more than a sentence"
    return why


@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [
        (
            {"FASTNN_EMULATED_DRIVER": "none"},
            "no NVIDIA driver was found; install one (nvidia-smi shows it when it works), or train on the CPU",
        ),
        (
            {"FASTNN_EMULATED_DRIVER": "11.4"},
            "the NVIDIA driver is too old: it serves CUDA 11.4 and this build of fastnn needs CUDA 12.8; "
            "update the driver, or rebuild fastnn with an older nvcc (12.8 at least)",
        ),
        (
            {"FASTNN_EMULATED_GPUS": ""},
            "an NVIDIA driver was found, but no GPU that it shows to this process; see nvidia-smi -L and CUDA_VISIBLE_DEVICES",
        ),
        (
            {"FASTNN_EMULATED_GPUS": "12.1", "FASTNN_EMULATED_ARCHS": "80_90a"},
            "this build of fastnn has CUDA kernels for sm_80, sm_90a, and none that runs on GPU 0 (CPU running CUDA threads as fibers, "
            "compute capability 12.1); rebuild it in the checkout: `FASTNN_CUDA_ARCHS=121 pip install .`",
        ),
        (
            {"FASTNN_EMULATED_GPUS": "7.5,6.1", "FASTNN_EMULATED_ARCHS": "80"},
            "GPU 0 (CPU running CUDA threads as fibers) has compute capability 7.5, and fastnn's kernels need 8.0 or newer; train on the CPU",
        ),
    ],
    ids=lambda v: "-".join(v.values()) if isinstance(v, dict) else "",
)
def test_driver_gpu_and_build_that_do_not_fit(trouble: dict[str, str], sentence: str) -> None:
    assert reason(**trouble) == sentence


@pytest.mark.parametrize(
    ("gpu", "built", "runs"),
    [
        ("8.0", "80", True),
        ("8.9", "80_90a", True),
        ("8.0", "86", False),  # binaries run on the same generation's later chips alone
        ("9.0", "90a", True),
        ("9.0", "80_100", False),
        ("9.0", "80_86", False),
        ("10.3", "100", True),
        ("10.3", "90a_100a", False),  # exactly this chip's
        ("12.0", "100_120", True),
        ("12.1", "120", True),
    ],
)
def test_which_gpu_runs_what_was_built(gpu: str, built: str, runs: bool) -> None:
    code = f"from fastnn import _C\ntry: print(_C.open_backend({EMULATED!r}))\nexcept _C.DeviceError as error: print(error)"
    (answer,) = python(code, FASTNN_EMULATED_GPUS=gpu, FASTNN_EMULATED_ARCHS=built)
    assert answer == str([f"{GPU}:0"]) if runs else "none that runs on GPU 0" in answer


def test_a_gpu_that_does_not_fit_leaves_the_others() -> None:
    code = (
        f"import fastnn\nfrom fastnn import devices\ndevices.open_emulated({EMULATED!r})\n"
        "print(fastnn.tensor([1.0], device='cuda-emulated:1').exp().item())\n"
        "try: fastnn.tensor([1.0], device='cuda-emulated:0')\nexcept fastnn.DeviceError as error: print(error)"
    )
    value, error = python(code, FASTNN_EMULATED_GPUS="7.5,9.0", FASTNN_EMULATED_ARCHS="90a")
    assert abs(float(value) - np.e) < 1e-5 and error.startswith(f"{GPU}:0: GPU 0 (") and "capability 7.5, and" in error


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to build a library with")
def test_a_library_of_another_build(tmp_path: Path) -> None:
    for interface, rows in ((999, len(_C.rows())), (1, len(_C.rows()) + 1)):
        source, library = tmp_path / "other.cpp", tmp_path / f"other{interface}.so"
        source.write_text(
            f'extern "C" const int* fastnn_backend() {{ static const int numbers[] = {{{interface}, {rows}}}; return numbers; }}'
        )
        subprocess.run(["g++", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
        why = reason(FASTNN_CUDA_LIBRARY=str(library))
        assert why == f"{library} was built from another version of fastnn; run `pip install .` again"


def test_a_library_that_is_none(tmp_path: Path) -> None:
    nonsense = tmp_path / "_cuda.so"
    nonsense.write_text("nonsense")
    assert reason(FASTNN_CUDA_LIBRARY=str(nonsense)).startswith(f"cannot open {nonsense}: ")
    assert reason(FASTNN_CUDA_LIBRARY=str(tmp_path)).startswith(f"cannot open {tmp_path}: ")
    assert reason(FASTNN_CUDA_LIBRARY=_C.__file__) == f"{_C.__file__} does not export fastnn_backend()"
    assert "no CUDA kernels: " in reason(FASTNN_CUDA_LIBRARY=str(tmp_path / "missing.so"))


def test_importing_opens_nothing_of_cuda() -> None:
    """Not the kernels, not the driver, not by train, models or the command line: asking for a GPU does."""
    code = (
        "import os, fastnn, fastnn.cuda, fastnn.train, fastnn.models, fastnn.cli\n"
        "def opened():\n"
        "    files = {os.path.basename(line.split()[-1]).lower() for line in open('/proc/self/maps')}\n"
        "    return sorted(f for f in files if 'cuda' in f or 'nvidia' in f or 'nvrtc' in f)\n"
        "print(opened())\nfastnn.cuda.is_available()\nprint(opened())"
    )
    assert python(code, FASTNN_CUDA_LIBRARY=EMULATED) == ["[]", "['_cuda_emulated.so']"]


def test_devices_by_the_name_of_cuda() -> None:
    """The same library under the name of the real one: names, counts, and what DLPack calls device type 2."""
    code = (
        "import fastnn\nfrom fastnn import cuda\n"
        "x = fastnn.tensor([[1.0, 2.0]], device='cuda:1')\n"
        "y = fastnn.from_dlpack(x)\n"
        "print(cuda.device_count(), cuda.device_name('cuda:1'))\n"
        "print(fastnn.tensor([1.0], device='cuda').__dlpack_device__(), x.__dlpack_device__(), y.device, y.numpy().tolist())\n"
        "from fastnn.cli import main; main(['info'])"
    )
    count, exchanged, *info = python(code, FASTNN_CUDA_LIBRARY=EMULATED, FASTNN_EMULATED_NAME="cuda", FASTNN_EMULATED_GPUS="8.0,8.9")
    name = "CPU running CUDA threads as fibers, compute capability"
    assert count == f"2 {name} 8.9" and exchanged == "(2, 0) (2, 1) cuda:1 [[1.0, 2.0]]"
    assert f"{'cuda':16} cuda:0 {name} 8.0; cuda:1 {name} 8.9" in info


# --- memory


def left(device: str) -> int:
    fastnn.empty_cache(device)
    return fastnn.cuda.mem_get_info(device)[0]


def test_out_of_memory_says_how_much_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    device = devices.resolve(f"{GPU}:1")
    fastnn.empty_cache(device)
    before = fastnn.memory_stats(device)["allocated"]
    monkeypatch.setenv("FASTNN_EMULATED_MEMORY", str(before + 100_000))
    kept = fastnn.tensor(np.ones(5_000, np.float32), device=device)
    free = left(device)
    with pytest.raises(fastnn.OutOfMemoryError) as caught:
        fastnn.tensor(np.zeros(30_000, np.float32), device=device)
    error: Any = caught.value
    held = fastnn.memory_stats(device)["allocated"]
    assert (error.requested, error.free, error.held) == (120_000, free, held) and held >= before + 20_000
    assert str(error) == (
        f"fastnn: out of memory on {device}: 120000 bytes requested, {free} free, {held} held by live arrays; a smaller batch needs less"
    )
    assert left(device) == free
    assert (kept.exp().numpy() > 2.7).all()  # 20 kB more fit
    del kept
    assert fastnn.memory_stats(device)["allocated"] == before


def test_memory_that_nobody_uses_is_given_back_before_anybody_hears_no(monkeypatch: pytest.MonkeyPatch) -> None:
    device = devices.resolve(f"{GPU}:1")
    fastnn.empty_cache(device)
    monkeypatch.setenv("FASTNN_EMULATED_MEMORY", str(fastnn.memory_stats(device)["reserved"] + 100_000))
    for n in (15_000, 16_000, 20_000):  # of different classes: each needs what the one before left in the cache
        assert fastnn.tensor(np.ones(n, np.float32), device=device).shape == (n,)


def test_the_kth_allocation_fails_and_the_next_step_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training step in ever more memory: an exception that names its layer or says how much, or the loss, which is always the same."""
    device = devices.resolve(f"{GPU}:1")
    fastnn.seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 3)).to(device)
    x, labels = fastnn.tensor(np.ones((4, 1, 8, 8), np.float32), device=device), fastnn.tensor(np.zeros(4, np.int64), device=device)

    def step() -> float:
        loss = fastnn.ops.cross_entropy(model(x), labels)
        loss.backward()
        return loss.item()

    def clear() -> None:
        for parameter in model.parameters():
            parameter.grad = None
        fastnn.empty_cache(device)

    expected = step()
    clear()
    at_rest, failures = fastnn.memory_stats(device)["allocated"], 0
    for room in range(0, 40_000, 1_000):
        monkeypatch.setenv("FASTNN_EMULATED_MEMORY", str(at_rest + room))
        try:
            assert step() == expected
        except fastnn.OutOfMemoryError:
            failures += 1
        monkeypatch.delenv("FASTNN_EMULATED_MEMORY")
        clear()
        assert fastnn.memory_stats(device)["allocated"] == at_rest
    assert 3 <= failures < 40
    assert step() == expected


@pytest.mark.parametrize("loss", ["cross_entropy", "nll_loss", "multi_margin_loss", "multiclass_svm_loss"])
def test_labels_of_a_gpu_are_not_read_by_the_host(monkeypatch: pytest.MonkeyPatch, loss: str) -> None:
    device, function = devices.resolve(GPU), getattr(fastnn.ops, loss)
    scores, labels = np.arange(15, dtype=np.float32).reshape(3, 5) % 7, np.array([1, 4, 0])
    expected = function(fastnn.tensor(scores), fastnn.tensor(labels), reduction="none").numpy()
    x, near = fastnn.tensor(scores, device=device, requires_grad=True), fastnn.tensor(labels, device=device)
    far = fastnn.tensor(np.array([1, 5, -3]), device=device)
    _C.set_memory_checks(False)  # they look at each output
    try:
        monkeypatch.setenv("FASTNN_EMULATED_FAIL", "cudaStreamSynchronize")
        losses, wrong = function(x, near, reduction="none"), function(x, far, reduction="none")
        wrong.sum().backward()
        monkeypatch.delenv("FASTNN_EMULATED_FAIL")
    finally:
        _C.set_memory_checks(True)
    np.testing.assert_allclose(losses.numpy(), expected, rtol=1e-6)
    assert np.isnan(wrong.numpy()).tolist() == [False, True, True] and x.grad is not None
    assert np.isfinite(x.grad.numpy()).all(axis=1).tolist() == [True, False, False]


# --- failures of calls


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        ("launch", "CUDA could not launch a kernel: FASTNN_EMULATED_FAIL asks for it (cudaErrorLaunchFailure)"),
        ("cudaMemcpyAsync", "CUDA could not copy: invalid argument (cudaErrorInvalidValue)"),
        ("cudaStreamSynchronize", "CUDA could not finish the work on a stream: "),
    ],
)
def test_a_call_that_fails_is_one_exception(function: str, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = fastnn.tensor(np.ones(7, np.float32), device=GPU)
    before = fastnn.memory_stats(x.device)["allocated"]
    monkeypatch.setenv("FASTNN_EMULATED_FAIL", function)
    with pytest.raises(fastnn.DeviceError) as caught:
        x.exp().numpy()
    assert sentence in str(caught.value) and str(caught.value).startswith(f"{x.device}: ")
    del caught
    monkeypatch.delenv("FASTNN_EMULATED_FAIL")
    assert fastnn.memory_stats(x.device)["allocated"] == before
    assert np.allclose(x.exp().numpy(), np.e)


def test_a_failing_kernel_names_its_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = nn.Linear(3, 2).to(GPU)
    x = fastnn.tensor(np.ones((1, 3), np.float32), device=GPU)
    monkeypatch.setenv("FASTNN_EMULATED_FAIL", "launch")
    with pytest.raises(fastnn.DeviceError, match=r"Linear\(3->2.*could not launch a kernel"):
        layer(x)


@pytest.mark.parametrize("function", ["cudaStreamBeginCapture", "cudaStreamEndCapture"])
def test_a_stream_that_cannot_become_a_graph(function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A captured step runs its list of kernels then."""
    monkeypatch.setenv("FASTNN_EMULATED_FAIL", function)
    _C.set_memory_checks(False)
    try:
        captured = fastnn.capture(lambda x: (x * 2.0).exp())
        for value in range(4):
            (y,) = captured(fastnn.tensor([float(value)], device=GPU)).numpy()
            assert y == pytest.approx(np.exp(2 * value), rel=1e-5)
        assert captured._takes[0].replay.graphs == 0
    finally:
        _C.set_memory_checks(True)
