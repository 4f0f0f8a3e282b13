"""Initialisers: PyTorch's laws, in the type and the range of the tensor; and the numbers of a Generator that they are made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import fastnn
from fastnn import nn, ops


def test_dirac_is_pytorchs() -> None:
    for shape in [(4, 6, 3, 2), (6, 4, 1, 1), (5, 5, 4, 3)]:
        weight = nn.Parameter(np.ones(shape))
        assert nn.init.dirac_(weight) is weight
        assert (weight.numpy() == torch.nn.init.dirac_(torch.empty(shape)).numpy()).all()
    for groups in (1, 2, 3):
        weight = nn.init.dirac_(nn.Parameter(np.ones((6, 4, 3, 3))), groups)
        assert (weight.numpy() == torch.nn.init.dirac_(torch.empty(6, 4, 3, 3), groups).numpy()).all()
    with pytest.raises(ValueError, match="groups = 4 must divide the 6 output channels"):
        nn.init.dirac_(nn.Parameter(np.ones((6, 4, 3, 3))), 4)
    with pytest.raises(ValueError, match=r"dirac_: needs the weight of a convolution, .* got shape \(4, 6\)"):
        nn.init.dirac_(nn.Parameter(np.ones((4, 6))))


def test_gains_are_pytorchs() -> None:
    for name in ("linear", "conv1d", "conv2d", "conv3d", "conv_transpose2d", "sigmoid", "tanh", "relu", "selu", "leaky_relu"):
        assert nn.init.calculate_gain(name) == torch.nn.init.calculate_gain(name)  # type: ignore[arg-type]
    for slope in (0, 0.2, np.sqrt(5)):
        assert nn.init.calculate_gain("leaky_relu", slope) == torch.nn.init.calculate_gain("leaky_relu", slope)
    with pytest.raises(ValueError, match="calculate_gain: 'swish' is not one of leaky_relu, linear"):
        nn.init.calculate_gain("swish")
    with pytest.raises(TypeError, match="kaiming_normal_: a must be a number, got 'fan_out'"):
        nn.init.kaiming_normal_(nn.Parameter(np.ones((4, 6))), "fan_out")  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (5, 5), (6, 2, 3, 2), (20, 2, 3, 2)])
def test_orthogonal_weights_are(shape: tuple[int, ...]) -> None:
    w = nn.init.orthogonal_(nn.Parameter(np.zeros(shape)), 2).numpy().astype(np.float64).reshape(shape[0], -1)
    square = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    assert np.abs(square - 4 * np.eye(len(square))).max() < 1e-5
    with pytest.raises(ValueError, match=r"orthogonal_: needs a weight of rank 2 or more, got shape \(3,\)"):
        nn.init.orthogonal_(nn.Parameter(np.zeros(3)))


def test_orthogonal_matrices_lean_no_way() -> None:
    """Signs as often one way as the other: QR alone would fix those of the diagonal."""
    fastnn.seed(0)
    signs = [float(np.sign(nn.init.orthogonal_(nn.Parameter(np.zeros((2, 2)))).numpy()[0, 0])) for _ in range(400)]
    assert abs(np.mean(signs)) < 0.2


def test_the_identity_of_a_linear_layer() -> None:
    assert nn.init.eye_(nn.Parameter(np.full((2, 3), 7.0))).numpy().tolist() == [[1, 0, 0], [0, 1, 0]]
    with pytest.raises(ValueError, match=r"eye_: needs a matrix, got shape \(2, 3, 4\)"):
        nn.init.eye_(nn.Parameter(np.zeros((2, 3, 4))))


def zeros(n: int, dtype: str) -> fastnn.Tensor:
    return ops.cast(fastnn.tensor(np.zeros(n)), dtype) if dtype == "bfloat16" else fastnn.tensor(np.zeros(n), dtype)


def test_an_integer_stays_what_it_is() -> None:
    assert (nn.init.constant_(zeros(3, "int64"), 2**53 + 1).numpy() == 2**53 + 1).all()


def test_draws_have_the_digits_of_the_tensor() -> None:
    """float32 near 1e8 has only multiples of 8, and nothing near 1e-50."""
    x = zeros(4000, "float64")
    assert nn.init.normal_(x, 1e8, 1.0).numpy().std() == pytest.approx(1, rel=0.05)
    assert nn.init.uniform_(x, 0.0, 1e-50).numpy().max() == pytest.approx(1e-50, rel=0.01)
    square = nn.init.orthogonal_(fastnn.tensor(np.zeros((9, 9)), "float64")).numpy()
    assert np.abs(square @ square.T - np.eye(9)).max() < 1e-14


def test_the_same_numbers_are_drawn_for_every_type() -> None:
    def drawn(dtype: str) -> list[np.ndarray]:
        fastnn.seed(5)
        return [init(zeros(50, dtype)).numpy().astype(np.float64) for init in (nn.init.normal_, nn.init.uniform_)]

    for one, wide, narrow in zip(drawn("float32"), drawn("float64"), drawn("bfloat16")):
        assert (one == wide.astype(np.float32)).all() and not (one == wide).all()
        assert (narrow == torch.tensor(one).bfloat16().double().numpy()).all()


def test_a_generators_seed_stays() -> None:
    """It was written over, and shown and kept in checkpoints, while numbers went on as of the first."""
    generator = fastnn.Generator(1)
    with pytest.raises(AttributeError, match=r"Generator: seed is what it was made with; Generator\(2\) is another"):
        generator.seed = 2
    assert generator.seed == 1 and (generator.uniform((3,)) == fastnn.Generator(1).uniform((3,))).all()


def test_a_uniform_number_is_less_than_the_upper_end() -> None:
    """Also where the nearest float32 would be that end: words from 2^32 - 128 on, of which this draw has some."""
    generator, size = fastnn.Generator(0), 1 << 22
    assert (generator.bits(size, 38, 0) >= 2**32 - 128).any()
    generator.draw = 38
    assert generator.uniform((size,)).max() == np.nextafter(np.float32(1), np.float32(0))
    generator.draw = 38
    assert float(generator.uniform((size,), 0.0, 0.1).max()) < 0.1 < float(np.float32(0.1))
    assert (generator.uniform((3,), 2.0, 2.0) == 2).all()


@pytest.mark.parametrize(
    "make, error, words",
    [
        (
            lambda: nn.init.uniform_(zeros(3, "float32"), -1e308, 1e308),
            ValueError,
            "uniform_: a, b and their difference must be finite as float32, got a=-1e.308 and b=1e.308",
        ),
        (
            lambda: nn.init.uniform_(zeros(3, "float32"), 0.0, 1e300),
            ValueError,
            "uniform_: a, b and their difference must be finite as float32",
        ),
        (lambda: nn.init.uniform_(zeros(3, "float64"), -1e308, 1e308), ValueError, "got a=-1e.308 and b=1e.308"),
        (
            lambda: fastnn.Generator(0).uniform((3,), -1e308, 1e308),
            ValueError,
            "Generator.uniform: low, high and their difference must be finite as",
        ),
        (lambda: nn.init.constant_(zeros(3, "uint8"), 300), ValueError, r"constant_: 300 at \(0,\) is no uint8; expected 0 to 255"),
        (lambda: nn.init.constant_(zeros(3, "int64"), 2.0**63), ValueError, "constant_: 9.22.*e.18 at .* is no int64"),
        (lambda: nn.init.normal_(zeros(3, "int64")), TypeError, "normal_: tensor has dtype int64; expected float32"),
        (
            lambda: fastnn.Generator(0).normal((3,), dtype="float16"),
            ValueError,
            "Generator.normal: dtype 'float16' is not one of float32, float64",
        ),
    ],
)
def test_what_no_tensor_can_hold(make: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make()
