"""Weights of PyTorch as they come: parameters that want gradients, bfloat16 and narrower types, what numpy cannot hold."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fastnn
from fastnn import files, nn, optim


@pytest.fixture
def theirs() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3), torch.nn.Flatten(), torch.nn.Linear(12, 2))


def ours() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_a_state_of_any_float_type_is_taken(theirs: torch.nn.Module, dtype: torch.dtype) -> None:
    model = ours()
    model.load_state_dict(theirs.to(dtype).state_dict())
    for name, value in theirs.state_dict().items():
        np.testing.assert_array_equal(model.state_dict()[name], value.float().numpy(), name)


def test_parameters_are_taken_as_they_are(theirs: torch.nn.Module) -> None:
    model = ours()
    model.load_state_dict({**dict(theirs.named_parameters()), **dict(theirs.named_buffers())})
    for name, value in theirs.named_parameters():
        np.testing.assert_array_equal(model.state_dict()[name], value.detach().numpy(), name)
    weight = theirs[3].weight
    np.testing.assert_array_equal(fastnn.tensor(weight).numpy(), weight.detach().numpy())
    np.testing.assert_array_equal(fastnn.tensor(weight.bfloat16()).numpy(), weight.detach().bfloat16().float().numpy())
    model[3].weight.copy_from(weight * 2)
    np.testing.assert_array_equal(model[3].weight.numpy(), (weight * 2).detach().numpy())


def test_parameters_go_into_files_as_they_are(theirs: torch.nn.Module, tmp_path: Path) -> None:
    files.write(tmp_path / "a", dict(theirs.bfloat16().named_parameters()))
    arrays, _ = files.read(tmp_path / "a")
    for name, value in theirs.named_parameters():
        np.testing.assert_array_equal(arrays[name], value.detach().float().numpy(), name)


def test_bfloat16_of_jax_is_taken_as_pytorchs_is(tmp_path: Path) -> None:
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16  # numpy's form of it
    values = np.array([1.5, -2.0], bfloat16)
    layer = nn.Linear(1, 2)
    layer.load_state_dict({"weight": values[:, None], "bias": values})
    files.write(tmp_path / "a", {"bias": values})
    for array in (layer.bias.numpy(), fastnn.tensor(values).numpy(), files.read(tmp_path / "a")[0]["bias"]):
        assert array.dtype == np.float32 and array.tolist() == [1.5, -2.0]
    with pytest.raises(TypeError, match="^fastnn.tensor: cannot use values of dtype .*a.*; expected numbers or booleans$"):
        fastnn.tensor(np.zeros(2, [("a", np.float32)]))


def test_modules_by_name_have_the_same_keys() -> None:
    theirs = torch.nn.Sequential(OrderedDict(conv=torch.nn.Conv2d(2, 3, 3), flat=torch.nn.Flatten(), fc=torch.nn.Linear(12, 2)))
    net = nn.Sequential(OrderedDict(conv=nn.Conv2d(2, 3, 3), flat=nn.Flatten(), fc=nn.Linear(12, 2)))
    net.load_state_dict(theirs.state_dict())
    x = np.ones((1, 2, 4, 4), np.float32)
    np.testing.assert_allclose(net(fastnn.tensor(x)).numpy(), theirs(torch.tensor(x)).detach().numpy(), rtol=1e-5)


def test_averages_are_taken_from_torch(theirs: torch.nn.Module) -> None:
    model = ours()
    ema = optim.EMA(model)
    state = {**theirs.bfloat16().state_dict(), "updates": 1, "calls": 1}
    ema.load_state_dict({name: value for name, value in state.items() if name != "1.num_batches_tracked"})
    np.testing.assert_array_equal(ema.state_dict()["3.weight"], theirs[3].weight.detach().float().numpy())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: torch.ones(2).to_sparse(), r"torch.Tensor of torch.float32 \(torch.sparse_coo, on cpu\)"),
        (lambda: torch.ones(2, device="meta"), r"torch.Tensor of torch.float32 \(torch.strided, on meta\)"),
        (lambda: torch.ones(2, dtype=torch.complex64).conj(), r"torch.Tensor of torch.complex64 \(torch.strided, on cpu\)"),
    ],
)
def test_what_numpy_cannot_hold_is_refused_by_name(make: Callable[[], Any], said: str) -> None:
    layer = nn.Linear(3, 2)
    with pytest.raises(
        ValueError, match=rf"^Linear.load_state_dict: bias must be an array that numpy can hold, dense and on the CPU, got {said}$"
    ):
        layer.load_state_dict({"weight": torch.ones(2, 3), "bias": make()})


@pytest.mark.parametrize("value", [torch.float32, torch.Tensor, torch.nn.Linear(1, 1)])
def test_what_is_no_tensor_of_torch_is_refused(value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"load_state_dict.*: bias "):
        nn.Linear(3, 2).load_state_dict({"weight": torch.ones(2, 3), "bias": value})
