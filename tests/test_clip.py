"""Gradient clipping against torch.nn.utils; bits, special values, refusals."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from kernel_calls import DEVICES
from torch_twins import assert_close, normal

import fastnn
from fastnn import _C, nn
from fastnn.optim import clip_grad_norm_, clip_grad_value_

SHAPES = [(4, 3), (7,), (5, 3, 3, 3), (1,), (), (0,), (300, 301)]


def parameters(dtype: str = "float32", scale: float = 1.0) -> tuple[list[nn.Parameter], list[torch.nn.Parameter]]:
    ours = [nn.Parameter(np.zeros(shape), dtype) for shape in SHAPES]
    theirs = [torch.nn.Parameter(torch.zeros(shape, dtype=torch.float64)) for shape in SHAPES]
    for i, (p, q) in enumerate(zip(ours, theirs)):
        if i != 1:  # one has no gradient
            g = normal(i, *p.shape) * np.float32(scale)
            p.grad, q.grad = fastnn.tensor(g, dtype), torch.tensor(g, dtype=torch.float64)
    return ours, theirs


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("limit", [0.0, 0.5, 300.0, 1000.0, math.inf])
def test_clipping_by_norm_is_torchs(limit: float, dtype: str) -> None:
    ours, theirs = parameters(dtype)
    norm, expected = clip_grad_norm_(ours, limit), torch.nn.utils.clip_grad_norm_(theirs, limit)
    assert norm.shape == () and float(norm) == pytest.approx(float(expected), rel=1e-6 if dtype == "float32" else 1e-13)
    for p, q in zip(ours, theirs):
        assert (p.grad is None) == (q.grad is None)
        if p.grad is not None and q.grad is not None:
            assert_close(p.grad, q.grad, 100)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("norm_type", [1, 2, 2.0, 3.5, 0.5, math.inf, "inf"])
def test_other_norms_are_torchs(norm_type: Any, device: str) -> None:
    for limit, scale in itertools.product((0.5, 300.0, 1e9), (1.0, 1e-12, 1e15)):
        ours, theirs = parameters(scale=scale)
        for p in ours:
            p._array = p._array.to(device)
            p.grad = None if p.grad is None else p.grad.to(device)
        norm = clip_grad_norm_(ours, limit * scale, norm_type)
        expected = torch.nn.utils.clip_grad_norm_([q for q in theirs if q.numel()], limit * scale, float(norm_type))
        assert norm.shape == () and float(norm) == pytest.approx(float(expected), rel=2e-6)
        for p, q in zip(ours, theirs):
            if p.grad is not None and q.grad is not None:
                assert_close(p.grad, q.grad, 100)


@pytest.mark.parametrize("norm_type", [1, 2, 3, math.inf])
def test_other_norms_of_what_is_not_finite(norm_type: float) -> None:
    for value, expected in ((math.inf, math.inf), (math.nan, math.nan)):
        p, q = nn.Parameter(np.zeros(3)), nn.Parameter(np.zeros(2))
        for first, last in ((p, q), (q, p)):
            first.grad = fastnn.tensor(np.full(first.shape, 2.0))
            last.grad = fastnn.tensor(np.full(last.shape, value))
            with pytest.raises(RuntimeError, match="norm of the gradients is (inf|nan); they are left as they are"):
                clip_grad_norm_([p, q], 1.0, norm_type, error_if_nonfinite=True)
            assert (first.grad.numpy() == 2).all()
            assert str(float(clip_grad_norm_([p, q], 1.0, norm_type))) == str(expected)


@pytest.mark.parametrize("norm_type", [1, 2, 3, math.inf])
def test_norms_of_nothing_are_zero(norm_type: float) -> None:
    p = nn.Parameter(np.zeros(3))
    assert float(clip_grad_norm_([p], 1.0, norm_type)) == 0
    p.grad = fastnn.tensor(np.zeros(3))
    assert float(clip_grad_norm_([p], 1.0, norm_type)) == 0 and (p.grad.numpy() == 0).all()


@pytest.mark.parametrize("limit", [0.0, 0.5, 3.0])
def test_clipping_by_value_is_torchs(limit: float) -> None:
    ours, theirs = parameters()
    clip_grad_value_(ours, limit)
    torch.nn.utils.clip_grad_value_(theirs, limit)
    for p, q in zip(ours, theirs):
        if p.grad is not None and q.grad is not None:
            assert (p.grad.numpy() == q.grad.numpy()).all()


def test_one_tensor_and_none_at_all() -> None:
    p = nn.Parameter(np.zeros(2))
    p.grad = fastnn.tensor(np.array([3.0, 4.0]))
    assert float(clip_grad_norm_(p, 1.0)) == 5 and p.grad.numpy().tolist() == pytest.approx([0.6, 0.8])
    clip_grad_value_(p, 0.7)
    assert p.grad.numpy().tolist() == pytest.approx([0.6, 0.7])
    p.grad = None
    assert float(clip_grad_norm_([p], 1.0)) == 0 and float(clip_grad_norm_([], 1.0)) == 0
    clip_grad_value_([p], 1.0)


def test_parameters_of_both_types_have_one_norm() -> None:
    a, b = nn.Parameter(np.zeros(1)), nn.Parameter(np.zeros(1), "float64")
    a.grad, b.grad = fastnn.tensor(np.array([3.0])), fastnn.tensor(np.array([4.0]), "float64")
    assert float(clip_grad_norm_([a, b], 2.5)) == 5
    assert a.grad.item() == pytest.approx(1.5) and b.grad.item() == pytest.approx(2.0)


def test_norms_that_are_not_finite() -> None:
    for value in (math.nan, math.inf):
        p = nn.Parameter(np.zeros(2))
        p.grad = fastnn.tensor(np.array([1.0, value]))
        with pytest.raises(RuntimeError, match=f"the norm of the gradients is {value}; they are left as they are"):
            clip_grad_norm_([p], 1.0, error_if_nonfinite=True)
        assert p.grad.numpy()[0] == 1
        norm = clip_grad_norm_([p], 1.0)
        q = torch.nn.Parameter(torch.zeros(2))
        q.grad = torch.tensor([1.0, value])
        torch.nn.utils.clip_grad_norm_([q], 1.0)
        assert np.array_equal(p.grad.numpy(), q.grad.numpy(), equal_nan=True) and not math.isfinite(float(norm))
    p.grad = fastnn.tensor(np.array([math.nan, 5.0]))
    clip_grad_value_([p], 1.0)
    assert np.isnan(p.grad.numpy()[0]) and p.grad.numpy()[1] == 1


@pytest.mark.parametrize(("strict", "captured"), [(False, False), (True, False), (False, True)])
def test_squares_that_overflow_make_no_zeros_of_finite_gradients(
    strict: bool, captured: bool, isa: str, without_memory_checks: None
) -> None:
    """On the CPU, in captured steps as eagerly."""
    p, q = (nn.Parameter(np.zeros(n)) for n in (5000, 2))
    first, second = fastnn.tensor([3e20] + [0.0] * 4999), fastnn.tensor([0.0, 4e20])

    def clip() -> fastnn.Tensor:
        p.grad, q.grad = first * 1.0, second * 1.0
        return clip_grad_norm_([p, q], 10.0, error_if_nonfinite=strict)

    norm = (fastnn.capture(clip) if captured else clip)()
    assert float(norm) == pytest.approx(5e20, rel=1e-6)
    assert p.grad is not None and q.grad is not None
    assert p.grad.numpy()[:2].tolist() == pytest.approx([6, 0]) and q.grad.numpy().tolist() == pytest.approx([0, 8])
    q.grad = fastnn.tensor([1e20, math.inf])
    assert float(clip_grad_norm_([q], 10.0)) == math.inf


def test_the_same_bits_for_any_number_of_threads(threads: None) -> None:
    seen = set()
    for count in (1, 2, 3, 7):
        fastnn.set_num_threads(count)
        ours, _ = parameters()
        norm = clip_grad_norm_(ours, 0.5)
        seen.add((norm.numpy().tobytes(), *(p.grad.numpy().tobytes() for p in ours if p.grad is not None)))
    assert len(seen) == 1


def test_two_kernel_calls_for_all() -> None:
    ours, _ = parameters()
    with fastnn.profile() as kernels:
        clip_grad_norm_(ours, 0.5)
    assert {name: k["calls"] for name, k in kernels.items() if k["calls"]} == {"global_norm": 1, "clip_norm": 1}
    assert _C.last_call()["row"] == "clip_norm"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: clip_grad_norm_([], -1.0), ValueError, "max_norm must not be negative, got -1.0"),
        (lambda: clip_grad_norm_([], 1.0, 0), ValueError, "norm_type must be positive, got 0"),
        (lambda: clip_grad_norm_([], 1.0, -math.inf), ValueError, "norm_type must be positive, got -inf"),
        (lambda: clip_grad_norm_([], math.nan), ValueError, "max_norm must be a number, got nan"),
        (lambda: clip_grad_value_([], -1.0), ValueError, "clip_value must not be negative, got -1.0"),
        (lambda: clip_grad_norm_([np.zeros(1)], 1.0), TypeError, "clip_grad_norm_: expected parameters, got numpy.ndarray"),
    ],
)
def test_bad_arguments(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("clip", [clip_grad_norm_, clip_grad_value_])
def test_a_used_up_iterator_is_told_of(clip: Any) -> None:
    parameters = nn.Linear(2, 2).parameters()
    fastnn.optim.SGD(parameters, 0.1)
    with pytest.warns(UserWarning, match=f"^{clip.__name__}: the iterator gives no parameters, and nothing is clipped.*model.parameters()"):
        clip(parameters, 1.0)
    clip([], 1.0), clip(nn.Linear(2, 2).parameters(), 1.0)
