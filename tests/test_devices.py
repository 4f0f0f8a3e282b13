"""Devices: arrays and modules that move, streams and events, memory and its end, and what is said when something does not fit.

On every device there is besides the CPU; "cuda-emulated" (FASTNN_CUDA_EMULATED) needs no GPU.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel_calls import GPUS

import fastnn
from fastnn import _C, devices, models, nn, optim, train
from fastnn.data import ArrayDataset, Loader
from fastnn.train import Trainer

every_gpu = pytest.mark.parametrize("gpu", GPUS)


def values(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


# --- names


def test_names_that_do_not_exist() -> None:
    with pytest.raises(ValueError, match="'gpu' is not one of 'cpu', 'cuda'"):
        fastnn.tensor([1.0], device="gpu")
    with pytest.raises(TypeError, match="a device is a name"):
        fastnn.tensor([1.0]).to(0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the CPU has no streams"):
        _C.Stream("cpu")


def test_without_a_gpu_one_sentence_says_why() -> None:
    """In a process of its own, with a library that is not there, is no library, or is another one."""
    for path, words in (
        ("/nowhere/_cuda.so", "this build has no CUDA kernels"),
        (os.path.realpath(__file__), "cannot open"),
        (_C.__file__, "does not export fastnn_backend"),
    ):
        code = (
            "import fastnn\nassert not fastnn.cuda.is_available() and fastnn.cuda.device_count() == 0\n"
            "print(fastnn.cuda.why_not_available())\nprint(fastnn.show_config())\n"
            "try: fastnn.tensor([1.0], device='cuda')\nexcept fastnn.DeviceError as error: print(error)"
        )
        environment = {**os.environ, "FASTNN_CUDA_LIBRARY": path}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert words in lines[0] and words in lines[-1] and any(line.startswith("cuda") and words in line for line in lines)


@every_gpu
def test_a_device_that_does_not_exist(gpu: str) -> None:
    with pytest.raises(ValueError, match=f"'{gpu}:99' does not exist; there are cpu, {gpu}:0"):
        fastnn.tensor([1.0], device=f"{gpu}:99")


def test_precision_is_one_of_three_words() -> None:
    assert fastnn.get_precision() == "highest"
    try:
        for word in ("medium", "high", "highest"):
            fastnn.set_precision(word)
            assert fastnn.get_precision() == word and f"{word}: " in fastnn.show_config()
    finally:
        fastnn.set_precision("highest")
    with pytest.raises(ValueError, match="precision 'low' is not one of highest, high, medium"):
        fastnn.set_precision("low")


# --- moving


@every_gpu
@pytest.mark.parametrize("shape", [(), (0,), (7,), (2, 3, 4, 5), (1, 2, 3, 4, 5)], ids=str)
def test_values_come_back_as_they_went(gpu: str, shape: tuple[int, ...]) -> None:
    x = values(*shape)
    there = fastnn.tensor(x, device=gpu)
    assert there.device == devices.resolve(gpu) and there.shape == shape
    assert np.array_equal(there.numpy(), x) and np.array_equal(there.cpu().numpy(), x) and there.cpu().device == "cpu"
    for dtype in ("uint8", "int64", "bool", "float64"):
        cast = np.abs(x * 10).astype(dtype)
        assert np.array_equal(fastnn.tensor(cast, dtype, device=gpu).numpy(), cast)


@every_gpu
def test_moving_is_differentiable_and_moving_nowhere_is_free(gpu: str) -> None:
    x = fastnn.tensor(values(3, 4), requires_grad=True)
    there = x.to(gpu)
    assert there.to(gpu) is there and x.to("cpu") is x
    (there * there).sum().cpu().backward()
    assert x.grad is not None and x.grad.device == "cpu" and np.allclose(x.grad.numpy(), 2 * x.numpy())


@every_gpu
def test_operands_of_two_devices_are_refused_by_name(gpu: str) -> None:
    layer = nn.Conv2d(3, 4, 3).to(gpu)
    with pytest.raises(ValueError, match=r"Conv2d\(3->4.*conv2d: weight lies on cuda.*:0, x on cpu; move one of them with .to\('cpu'\)"):
        layer(fastnn.tensor(values(1, 3, 8, 8)))


@every_gpu
def test_float64_is_the_cpus(gpu: str) -> None:
    with pytest.raises(fastnn.DeviceError, match=r"no kernels for float64 on .*\.to\('cpu'\)"):
        fastnn.tensor(values(3), "float64", device=gpu).exp()


@every_gpu
def test_writing_in_place_counts(gpu: str) -> None:
    x = fastnn.tensor(values(2, 3, 4, 5), requires_grad=True, device=gpu)
    y = (x * x).sum()
    x.copy_from(np.ones(x.shape))
    assert (x.numpy() == 1).all()
    with pytest.raises(RuntimeError, match="overwritten after the forward pass"):
        y.backward()


# --- memory


@every_gpu
def test_freed_memory_is_used_again(gpu: str) -> None:
    device = devices.resolve(gpu)
    fastnn.empty_cache(device)
    before = fastnn.memory_stats(device)
    for _ in range(10):
        fastnn.tensor(values(1000), device=gpu)
    after = fastnn.memory_stats(device)
    assert after["allocated"] == before["allocated"]
    assert after["allocations"] - before["allocations"] == 10 and after["reused"] - before["reused"] >= 9
    fastnn.empty_cache(device)
    assert fastnn.memory_stats(device)["reserved"] == fastnn.memory_stats(device)["allocated"]


@every_gpu
def test_no_memory_left_is_one_exception_and_no_loss(gpu: str) -> None:
    before = fastnn.memory_stats(devices.resolve(gpu))["allocated"]
    with pytest.raises(fastnn.OutOfMemoryError, match=rf"out of memory on {gpu}:0: \d+ bytes requested, \d+ free, \d+ held"):
        _C.empty((1 << 44,), "uint8", gpu)
    assert fastnn.memory_stats(devices.resolve(gpu))["allocated"] == before
    assert fastnn.tensor(values(10), device=gpu).exp().shape == (10,)


# --- streams and events


@every_gpu
def test_streams_and_events(gpu: str) -> None:
    side, mark, done = fastnn.cuda.Stream(gpu), fastnn.cuda.Event(gpu), fastnn.cuda.Event(gpu)
    x = fastnn.tensor(values(1000), device=gpu)
    mark.record()
    side.wait(mark)
    with fastnn.cuda.stream(side):
        y = x.exp()
        done.record()
    done.synchronize()
    assert np.allclose(y.numpy(), np.exp(x.numpy()), rtol=1e-6)
    assert mark.elapsed_time(done) >= 0 and side.device == devices.resolve(gpu)
    side.synchronize()
    fastnn.cuda.synchronize(gpu)


@every_gpu
def test_streams_outlive_their_objects(gpu: str) -> None:
    """Memory that a stream was given work with asks for the stream again when it is freed."""
    side, x = fastnn.cuda.Stream(gpu), fastnn.tensor(values(1000), device=gpu)
    handle = side.cuda_stream
    with fastnn.cuda.stream(side):
        y = x.exp()
    del side
    assert fastnn.cuda.Stream(gpu).cuda_stream == handle
    del x
    assert np.isfinite(y.numpy()).all()


@every_gpu
def test_pinned_memory_is_copied_from_and_kept_until_then(gpu: str) -> None:
    x = values(1000)
    for _ in range(3):
        assert np.array_equal(fastnn.cuda.pin(fastnn.tensor(x), gpu).to(gpu).numpy(), x)
    with pytest.raises(ValueError, match="an array on cuda.* cannot be pinned"):
        fastnn.cuda.pin(fastnn.tensor(x, device=gpu), gpu)
    with pytest.raises(ValueError, match="cannot be pinned for cpu"):
        fastnn.cuda.pin(fastnn.tensor(x), "cpu")


# --- the whole


@every_gpu
def test_dropout_masks_equal_the_cpus(gpu: str) -> None:
    x = fastnn.tensor(np.ones((3, 1001), np.float32))
    masks = []
    for device in ("cpu", gpu):
        fastnn.seed(5)
        masks.append(fastnn.ops.dropout(x.to(device), 0.3).numpy())
    assert np.array_equal(*masks) and 0 < (masks[0] == 0).mean() < 1


def run(device: str, **options: Any) -> tuple[dict[str, np.ndarray], list[float]]:
    """A small lenet after an epoch, and its losses."""
    random = np.random.default_rng(1)
    images, labels = random.integers(0, 256, (48, 1, 12, 12), dtype=np.uint8), random.integers(0, 3, 48)
    fastnn.seed(0)
    model = models.lenet(num_classes=3, input_shape=(1, 12, 12))
    trainer = Trainer(model, optim.SGD(model.parameters(), 0.02, momentum=0.9), device=device, seed=3)
    history = trainer.fit(ArrayDataset(images, labels), 2, batch_size=16, progress=False, **options)
    return model.state_dict(), [row["loss"] for row in history.rows]


@every_gpu
def test_a_trainer_there_does_what_one_here_does(gpu: str) -> None:
    """The same batches, masks and steps; rounding alone differs. The same device repeats itself to the bit."""
    (here, here_losses), (there, losses), (again, _) = run("cpu"), run(gpu), run(gpu)
    assert np.allclose(losses, here_losses, rtol=1e-4)
    for name, value in there.items():
        assert np.array_equal(value, again[name]), name
        assert np.allclose(value, here[name], rtol=1e-2, atol=1e-4), name


@every_gpu
def test_an_optimizer_follows_its_parameters(gpu: str) -> None:
    model = nn.Linear(3, 2)
    optimizer = optim.SGD(model.parameters(), 0.1, momentum=0.9)
    x = fastnn.tensor(values(4, 3))
    model(x).sum().backward()
    optimizer.step()
    model.to(gpu)
    assert all(p.grad is None and p.device == devices.resolve(gpu) for p in model.parameters())
    model(x.to(gpu)).sum().backward()
    optimizer.step()
    assert all(a.device == devices.resolve(gpu) for a in optimizer.state_arrays().values())


@every_gpu
def test_images_stay_there_when_they_fit(gpu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = ArrayDataset(np.arange(60, dtype=np.uint8).reshape(5, 3, 2, 2), np.arange(5))
    batches = [x.numpy() for x, _ in Loader(dataset, 2, device=gpu)]
    monkeypatch.setattr("fastnn.data.dataset.MOST_RESIDENT_BYTES", 10)
    streamed = list(Loader(dataset, 2, device=gpu))
    assert all(x.device == devices.resolve(gpu) and labels.device == "cpu" for x, labels in streamed)
    for a, (b, _), (c, _) in zip(batches, streamed, Loader(dataset, 2), strict=True):
        assert np.array_equal(a, b.numpy()) and np.array_equal(a, c.numpy())


@every_gpu
def test_training_and_loader_on_two_devices_are_refused(gpu: str) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    dataset = ArrayDataset(np.zeros((6, 3, 2, 2), np.uint8), np.arange(6) % 5)
    with pytest.raises(ValueError, match="the loader gives batches on cpu, the trainer works on cuda"):
        Trainer(model, optim.SGD(model.parameters(), 0.1), device=gpu).fit(Loader(dataset, 2), 1, progress=False)


@every_gpu
def test_a_summary_and_a_report_of_a_model_that_lies_there(gpu: str, tmp_path: Path) -> None:
    """A sample on the CPU met its weights."""
    here, there = (models.create("lenet", input_shape=(1, 8, 8), num_classes=3) for _ in range(2))
    there.to(gpu)
    assert str(there.summary((1, 8, 8))) == str(here.summary((1, 8, 8)))
    trainer = train.Trainer(there, optim.SGD(there.parameters(), 0.1))
    images = np.random.default_rng(0).normal(size=(12, 1, 8, 8)).astype(np.float32)
    trainer.fit((images, np.arange(12) % 3), 2, callbacks=[train.UpdateRatios()], progress=False)
    assert all(0 < ratio < 1 for ratio in trainer.history["update_ratio"])
    train.report_html(trainer, tmp_path / "r.html")
    assert str(here.summary((1, 8, 8))).splitlines()[-1] in (tmp_path / "r.html").read_text()
