"""Fractional max pooling: where regions lie, who draws them, and the maximum over them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kernel_calls import Table, call
from torch_twins import DTYPES, assert_close, direction, normal, twins

import fastnn
from fastnn import _C, nn, ops
from fastnn.random import Generator


def regions(
    shape: tuple[int, ...], output: tuple[int, int], window: tuple[int, int], pseudo: bool, draw: int = 0, offset: int = 0
) -> np.ndarray:
    return np.array(_C.fractional_regions(_C.FractionalRegions(shape, output, window, pseudo, draw, offset), Generator(5).state).numpy())


@pytest.mark.parametrize("pseudo", [False, True])
def test_regions_cover_the_map_in_steps_of_two_sizes(pseudo: bool) -> None:
    for height, p, window in ((20, 13, 2), (33, 24, 2), (30, 10, 3), (9, 8, 2), (7, 2, 2)):
        laid = regions((500, 1, height, height), (p, p), (window, window), pseudo)
        for first in (0, p):
            begin, end = laid[:, 0, first : first + p], laid[:, 1, first : first + p]
            steps = np.diff(begin, axis=1)
            assert (begin[:, 0] == 0).all() and (end[:, -1] == height).all() and (end - begin == window).all()
            a = (height - window) / (p - 1)
            assert set(np.unique(steps)) <= {int(a), int(a) + 1}
            if not pseudo and a != int(a):  # each step is as likely to be a long one
                likely = a - int(a)
                assert np.abs((steps == int(a) + 1).mean(0) - likely).max() < 5 * np.sqrt(likely * (1 - likely) / 500)


def test_one_region_is_the_end_of_the_map() -> None:
    """As PyTorch's."""
    for pseudo in (False, True):
        assert regions((2, 1, 5, 6), (1, 1), (2, 3), pseudo)[:, 0].tolist() == [[3, 3]] * 2


def test_every_order_of_steps_is_as_likely() -> None:
    """Of 7 = 2 + 5 pixels in 4 regions of 2: steps 2, 2, 1 in three orders."""
    begin = regions((6000, 1, 7, 7), (4, 4), (2, 2), False)[:, 0, :4]
    _, counts = np.unique(np.diff(begin, axis=1), axis=0, return_counts=True)
    assert len(counts) == 3 and np.abs(counts - 2000).max() < 5 * np.sqrt(6000 * 2 / 9)


def test_a_sample_draws_the_same_in_any_batch() -> None:
    for pseudo in (False, True):
        whole = regions((9, 3, 12, 10), (7, 6), (2, 2), pseudo)
        assert np.array_equal(regions((4, 8, 12, 10), (7, 6), (2, 2), pseudo, offset=5), whole[5:])
        assert not np.array_equal(regions((9, 3, 12, 10), (7, 6), (2, 2), pseudo, draw=1), whole)
        assert len(np.unique(whole, axis=0)) > 1, "every sample has its own"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kernel", "output"), [(2, (9, 7)), (3, (5, 6)), ((2, 3), (6, 5))])
def test_pseudo_random_regions_are_pytorchs(kernel: int | tuple[int, int], output: tuple[int, int], dtype: str) -> None:
    """Given the same u. PyTorch's samples are (width, height) and of every channel."""
    x, z = twins(normal(0, 3, 5, 14, 11), dtype)
    fastnn.seed(8)
    y = ops.fractional_max_pool2d(x, kernel, output, regions="pseudo-random")
    count = sum(output)
    words = Generator(8).bits(3 * count, 0, 1).reshape(3, count) / 2.0**32
    u = torch.tensor(np.stack([words[:, output[0]], words[:, 0]], axis=1))[:, None].expand(3, 5, 2).contiguous()
    expected = torch.nn.functional.fractional_max_pool2d(z, kernel, output, _random_samples=u)
    assert np.array_equal(y.numpy(), expected.detach().numpy().astype(dtype))
    y.backward(direction(y.shape))
    expected.backward(torch.tensor(direction(y.shape)))
    assert_close(x.grad, z.grad, 4)


def test_the_seed_decides_and_each_call_draws_anew() -> None:
    layer, x = nn.FractionalMaxPool2d(2, output_ratio=0.7), fastnn.tensor(normal(0, 4, 3, 20, 20))

    def three() -> list[np.ndarray]:
        fastnn.seed(3)
        return [np.array(layer(x).numpy()) for _ in range(3)]

    first, again = three(), three()
    assert all(np.array_equal(a, b) for a, b in zip(first, again)) and not np.array_equal(first[0], first[1])
    assert first[0].shape == (4, 3, 14, 14)
    layer.eval()
    assert not np.array_equal(layer(x).numpy(), layer(x).numpy()), "evaluation draws too: predictions are averaged over calls"


def test_channels_share_their_regions_and_backward_uses_forwards() -> None:
    x = np.repeat(normal(0, 2, 1, 9, 9), 3, axis=1)
    t = fastnn.tensor(x, requires_grad=True)
    y = ops.fractional_max_pool2d(t, 2, 6)
    ops.fractional_max_pool2d(t, 2, 6)  # moves the generator on
    assert np.array_equal(y.numpy()[:, 0], y.numpy()[:, 2])
    y.backward(np.ones(y.shape))
    assert t.grad.numpy().sum() == y.size and set(np.unique(x[t.grad.numpy() > 0])) == set(np.unique(y.numpy()))


def test_gradient_by_central_differences() -> None:
    def pool(x: fastnn.Tensor) -> fastnn.Tensor:
        fastnn.seed(1)
        return ops.fractional_max_pool2d(x, 2, (4, 3))

    assert fastnn.gradcheck(pool, [normal(0, 2, 2, 6, 5)])


def test_ties_and_nan(table: Table) -> None:
    x = np.zeros((1, 17, 4, 4))
    x[0, 3, 1, 1] = x[0, 3, 1, 2] = np.nan
    laid = np.array([[[0, 2, 0, 1], [2, 4, 3, 4]]])
    written = call("regionpool2d_forward", (x.shape, (2, 2), (2, 3), True), [x, laid], table.dtype)
    assert (written["index"][0, 5] == 0).all() and written["index"][0, 3].tolist() == [[4, 3], [0, 0]]
    assert np.isnan(written["y"][0, 3]).tolist() == [[True, True], [False, False]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"output_size": 8}, "8 regions of height 2 need an input of at least 9, got 8"),
        ({"output_size": 3, "output_ratio": 0.5}, "either output_size or output_ratio"),
        ({}, "either output_size or output_ratio"),
        ({"output_ratio": 1.5}, "output_ratio must lie between 0 and 1, got 1.5"),
        ({"output_size": 3, "regions": "any"}, "regions must be .*, got 'any'"),
    ],
)
def test_impossible_sizes_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ops.fractional_max_pool2d(fastnn.tensor(np.zeros((1, 1, 8, 8))), 2, **arguments)


def test_monte_carlo_averages_it() -> None:
    fastnn.seed(0)
    model, x = nn.Sequential(nn.FractionalMaxPool2d(2, output_ratio=0.7), nn.Flatten()), fastnn.tensor(normal(0, 4, 3, 20, 20))
    once, twice, many = (nn.monte_carlo(model, x, n).numpy() for n in (1, 1, 400))
    assert not np.array_equal(once, twice)
    assert np.abs(many - nn.monte_carlo(model, x, 400).numpy()).max() < 0.5
